// `nodesnap mount-back`, which is no command: what lets a daemon go runs it before it starts the daemon (snapshot/hold/action.h).
#pragma once

#include <string>
#include <vector>

namespace nodesnap::command {

bool is_mount_back(int argc, char** argv);
// Exit status: 0 if what was unmounted, if anything was, is mounted; otherwise 1, and why on standard error.
int run_mount_back(const std::vector<std::string>& arguments);

}  // namespace nodesnap::command
