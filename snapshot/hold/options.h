// What is to be held, and how: as the operator has said it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace nodesnap::hold {

enum class Mode { kNone, kFreeze, kStop, kHook };

const char* name_of(Mode mode) noexcept;  // "none", "freeze", "stop", "hook"

struct Options {
    Mode mode = Mode::kNone;
    // freeze: one of the two. stop: the unit, or both commands. ".service" is added to a name without a dot.
    std::string unit;
    pid_t pid = 0;  // the cgroup that it is in is frozen, with all others in it
    // stop: how the daemon is stopped and started. hook: what is run before and after. By /bin/sh -c.
    std::string before_command;
    std::string after_command;
    std::string status_command;  // stop by commands: exit status 0 if the daemon runs; if empty, it is taken to run

    std::chrono::nanoseconds max_downtime{std::chrono::seconds(10)};     // the guard lets go when it is over
    std::chrono::nanoseconds stop_timeout{0};                            // 0: as long as it takes
    std::chrono::nanoseconds command_limit{std::chrono::minutes(5)};     // of a hook, a start, a status command
    std::chrono::nanoseconds wait_for_others{std::chrono::seconds(30)};  // while another nodesnap holds the same

    std::string node_directory;  // for the commands' environment
    // Before what was stopped is started again, its volume is mounted, if a rollback has unmounted it (snapshot/backend/lvm_cut_off.h).
    bool mount_back = false;
    std::string state_directory = "/var/lib/nodesnap";
    std::vector<std::string> guard_program = {"/proc/self/exe", "guard"};  // what runs run_guard(); arguments are appended
    std::string systemctl = "systemctl";
};

}  // namespace nodesnap::hold
