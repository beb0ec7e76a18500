#include "snapshot/hold/refusals.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "platform/error.h"
#include "platform/processes.h"

namespace nodesnap::hold {
namespace {

constexpr const char* kHint = "give the database a cgroup of its own (a systemd unit has one), or hold it by --hold stop";
constexpr int kDeepest = 4096;  // ancestors: a loop in what /proc tells must not become one here

[[noreturn]] void refuse(const Cgroup& cgroup, const std::string& why) {
    throw Error::refused("cgroup " + cgroup.path() + " can't be frozen: " + why, kHint);
}

}  // namespace

std::string vital_name(const std::string& command) {
    // As /proc/PID/comm has it: cut off after 15 bytes.
    static constexpr std::array<std::string_view, 6> kNames{"dbus-daemon", "dbus-broker",  "dbus-broker-lau",
                                                            "sshd",        "sshd-session", "init"};
    if (std::find(kNames.begin(), kNames.end(), command) != kNames.end()) {
        return command;
    }
    return command.starts_with("systemd") ? command : "";
}

void refuse_vital(const Cgroup& cgroup, std::span<const pid_t> own) {
    if (cgroup.path() == "/") {
        refuse(cgroup, "it is the top, which holds everything that has no cgroup of its own");
    }
    if (!cgroup.has_freezer()) {
        throw Error::refused("the kernel can't freeze cgroups", "hold the daemon by --hold stop; Linux 5.2 or newer can freeze");
    }
    std::set<pid_t> ours(own.begin(), own.end());
    for (pid_t pid : own) {
        for (int depth = 0; depth < kDeepest && pid > 1; ++depth) {
            pid = process_parent(pid).value_or(0);
            ours.insert(pid);
        }
    }
    for (const pid_t pid : cgroup.processes()) {
        const std::string command = process_command(pid);
        const std::string process = "process " + std::to_string(pid) + " (" + command + ") is in it";
        if (pid == 1) {
            refuse(cgroup, process);
        }
        if (std::find(own.begin(), own.end(), pid) != own.end()) {
            refuse(cgroup, process + ", which is nodesnap itself");
        }
        if (ours.count(pid) != 0) {
            refuse(cgroup, process + ", which nodesnap was started from");
        }
        if (!vital_name(command).empty()) {
            refuse(cgroup, process + ", which the host can't do without");
        }
    }
}

}  // namespace nodesnap::hold
