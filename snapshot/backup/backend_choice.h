// The backend for one backup, and what a backup and its dry run refuse before anything is touched.
//
// Errors: Error::refused with the remedy. Threads: any. Privileges: as the backends'.
#pragma once

#include <memory>

#include "io/target/target.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backup.h"
#include "snapshot/exclude.h"

namespace nodesnap {

std::unique_ptr<SnapshotBackend> choose_backend_for(const Target& target, const BackupOptions& options, const ExcludeRules& excludes);

}  // namespace nodesnap
