// Commands that read much of a repository, and are done where it is: on its host, if that is another one.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/remote/server.h"
#include "snapshot/command/command.h"

namespace nodesnap::command {

// nullopt if the call's REPOSITORY is of this host, or the command is one that isn't done elsewhere, or may not be with that key: then it
// is done here.
std::optional<ExitStatus> run_far(const Command& command, Call& call);
// The other end: runs what was asked for on the repository at `path`. `only_verifies`: for a client that may change nothing by it.
remote::RunCommand far_runner(const std::string& path, bool only_verifies);
// Whether this process runs what was asked for, and somebody there looks at its progress line.
bool shows_progress_far();

}  // namespace nodesnap::command
