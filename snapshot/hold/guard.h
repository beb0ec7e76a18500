// The guard: the process that holds and lets go, so that the daemon comes back whatever happens to nodesnap. See protocol.h for what it
// answers, and docs/design.md for why it lives as it does.
//
// Errors: none leaves it; they are told to nodesnap. Threads: the process has one. Privileges: as the action needs; without
// CAP_IPC_LOCK, CAP_SYS_RESOURCE and CAP_SYS_NICE it may be swapped out, killed for want of memory, or wait its turn, and says so.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace nodesnap::hold {

inline constexpr std::size_t kGuardArguments = 6;
// Ends when all is as before the hold. `arguments` are what GuardProcess has appended to the guard program. Exit status: 0 when the intent
// is removed, 1 when it stays.
int run_guard(const std::vector<std::string>& arguments);

}  // namespace nodesnap::hold
