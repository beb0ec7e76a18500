// What a restore refuses because it is seldom meant: a database that an older engine is to open, and the place of another node.
//
// Errors: Error::refused, with what to do, and the option that says it is meant. Threads: any. Privileges: none of its own.
#pragma once

#include "snapshot/report.h"
#include "snapshot/restore.h"

namespace nodesnap {

// Runs options.version_command. Where the version can't be told, here or of the backup, nothing is refused; why is a warning where there is
// a program that should have told it.
void require_engine(const Manifest& backup, const RestoreOptions& options, const std::string& destination, Report& report);

// `destination` is absolute. A record of nodes that can't be read is no reason not to restore: it is told, unless it is another user's.
void require_own_place(const Manifest& backup, const RestoreOptions& options, const std::string& destination, Report& report);

}  // namespace nodesnap
