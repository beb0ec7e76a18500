#include "snapshot/hold/resolve.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/host.h"
#include "platform/pidfd.h"
#include "platform/processes.h"
#include "platform/program_run.h"
#include "platform/random.h"
#include "snapshot/hold/refusals.h"
#include "snapshot/hold/service.h"

namespace nodesnap::hold {
namespace {

std::string fresh_id() {
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(random_u64()));
    return digits.data();
}

void check_options(const Options& options) {
    const bool unit = !options.unit.empty();
    const bool commands = !options.before_command.empty() || !options.after_command.empty();
    if (options.max_downtime.count() <= 0) {
        throw Error::usage("a daemon can't be held without a limit", "give a --max-downtime");
    }
    switch (options.mode) {
        case Mode::kFreeze:
            if (unit == (options.pid != 0) || options.pid < 0) {
                throw Error::usage("--hold freeze needs to know what to freeze", "give --unit or --pid");
            }
            break;
        case Mode::kStop:
            if (unit == commands || (commands && (options.before_command.empty() || options.after_command.empty()))) {
                throw Error::usage("--hold stop needs to know what to stop", "give --unit, or a command to stop and one to start");
            }
            break;
        default:
            if (!commands) {
                throw Error::usage("--hold hook needs a command to run");
            }
    }
}

// The cgroup that the process is in, with the process still there after it was opened.
Cgroup cgroup_of(Intent& intent, pid_t pid) {
    const auto process = Pidfd::open(pid);
    const auto start = process_start(pid);
    const auto path = Cgroup::path_of(pid);
    auto cgroup = path ? Cgroup::open(*path) : std::nullopt;
    if (!process || process->ended() || !start || !cgroup || Cgroup::path_of(pid) != path) {
        throw Error::refused("there is no process " + std::to_string(pid) + ", or it is moving or ending");
    }
    intent.member_pid = pid;
    intent.member_start = *start;
    return *std::move(cgroup);
}

void set_cgroup(Intent& intent, const Cgroup& cgroup) {
    intent.cgroup = cgroup.path();
    intent.cgroup_id = cgroup.id();
}

void freeze(Intent& intent, const Cgroup& cgroup) {
    const std::array<pid_t, 1> own{::getpid()};
    refuse_vital(cgroup, own);
    set_cgroup(intent, cgroup);
    const auto requested = cgroup.freeze_requested();
    if (!requested) {
        throw Error::refused("cgroup " + cgroup.path() + " has just gone away");
    }
    intent.already = *requested;
}

void resolve_unit(Intent& intent, const Options& options) {
    const Service service(options.systemctl, options.unit);
    const Service::State state = service.state();
    intent.unit = service.unit();
    intent.what = "unit " + service.unit();
    if (!state.found && !state.running()) {
        throw Error::refused("there is no " + intent.what);
    }
    if (!state.running() && !state.stopped()) {
        throw Error::refused(intent.what + " is " + state.active, "wait until it is active or inactive");
    }
    intent.already = state.stopped();
    if (intent.already) {
        return;
    }
    auto cgroup = state.control_group.empty() || !Cgroup::mount_point() ? std::nullopt : Cgroup::open(state.control_group);
    if (options.mode == Mode::kStop) {
        intent.dependents = service.running_dependents();
        if (cgroup) {
            set_cgroup(intent, *cgroup);
        }
        return;
    }
    if (!cgroup) {
        throw Error::refused(intent.what + " has no cgroup that can be frozen", "hold it by --hold stop");
    }
    if (state.watchdog_ns && *state.watchdog_ns <= options.max_downtime.count()) {
        throw Error::refused(intent.what + " has a watchdog that would end it before --max-downtime is over",
                             "give a shorter --max-downtime, or hold it by --hold stop");
    }
    freeze(intent, *cgroup);
}

void resolve_commands(Intent& intent, const Options& options) {
    intent.what = options.mode == Mode::kHook ? "what the hooks hold" : "the daemon";
    if (options.mode == Mode::kStop && !options.status_command.empty()) {
        const ProgramResult result =
            run_program({{"/bin/sh", "-c", options.status_command}, {"NODESNAP_HOLD=status"}, options.command_limit, -1, {}});
        if (result.timed_out || result.exit_code < 0 || result.exit_code == 127) {
            throw Error::refused("the status command \"" + options.status_command + "\" failed: " + result.explanation(),
                                 "it must end with 0 while the daemon runs, and with another status, but 127, while it doesn't");
        }
        intent.already = result.exit_code != 0;
    }
}

}  // namespace

Intent resolve(const Options& options) {
    Intent intent;
    intent.id = fresh_id();
    intent.mode = options.mode;
    intent.boot_id = boot_id();
    intent.pid = ::getpid();
    intent.process_start = process_start(::getpid()).value_or(0);
    intent.created_ns = utc_now_ns();
    intent.systemctl = options.systemctl;
    intent.before_command = options.before_command;
    intent.after_command = options.after_command;
    intent.status_command = options.mode == Mode::kStop ? options.status_command : "";
    intent.max_downtime_ns = options.max_downtime.count();
    intent.stop_timeout_ns = options.stop_timeout.count();
    intent.command_limit_ns = options.command_limit.count();
    intent.node_directory = options.node_directory;
    intent.mount_back = options.mount_back;
    if (!options.unit.empty()) {
        resolve_unit(intent, options);
    } else if (options.mode == Mode::kFreeze) {
        freeze(intent, cgroup_of(intent, options.pid));
        intent.what = "cgroup " + intent.cgroup;
    } else {
        resolve_commands(intent, options);
    }
    return intent;
}

std::string key_of(const Options& options) {
    check_options(options);
    if (!options.unit.empty()) {
        return Service(options.systemctl, options.unit).unit();
    }
    if (options.mode == Mode::kFreeze) {
        const auto path = Cgroup::path_of(options.pid);
        if (!path) {
            throw Error::refused("there is no process " + std::to_string(options.pid));
        }
        return *path;
    }
    return options.node_directory;
}

}  // namespace nodesnap::hold
