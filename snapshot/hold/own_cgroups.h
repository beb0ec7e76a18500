// The cgroups that nodesnap makes: one for a guard while it lives, and one for a daemon that a start command has started, which stays for
// as long as that runs. Both at the top of the tree, named after the intent.
//
// Errors: none is thrown but where it is said: without a cgroup of its own a guard, or a daemon, still does what it is for.
// Threads: any. Privileges: root, to have any effect.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "platform/cgroup.h"

namespace nodesnap::hold {

// nullopt where none can be made; `why` says why.
std::optional<Cgroup> make_guard_cgroup(const std::string& id, std::string* why = nullptr) noexcept;
std::optional<Cgroup> make_daemon_cgroup(const std::string& id) noexcept;  // the same one if it is there already
// Removes the guard's, and the daemon's if it is empty. True if the guard's isn't there any more.
bool remove_own_cgroups(const std::string& id) noexcept;
// Before that a guard must leave its own: it goes to the top.
void leave_own_cgroup() noexcept;
// Removes the empty ones whose id isn't in use.
void sweep_own_cgroups(const std::function<bool(const std::string& id)>& in_use) noexcept;

}  // namespace nodesnap::hold
