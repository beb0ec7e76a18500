// Which cgroups are never frozen: those that hold what the host, or nodesnap itself, needs to let them go again.
//
// Errors: Error::refused with the process's name. Threads: any. Privileges: none.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>

#include "platform/cgroup.h"

namespace nodesnap::hold {

// Refuses the top, and a cgroup that has, itself or in one below it, a process of `own` or an ancestor of one (a shell, a terminal, a
// multiplexer), process 1, D-Bus, journald, sshd or another part of systemd.
void refuse_vital(const Cgroup& cgroup, std::span<const pid_t> own);

// "" if the process isn't one of those by its name; what it is otherwise.
std::string vital_name(const std::string& command);

}  // namespace nodesnap::hold
