#include "snapshot/command/hold_options.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "platform/error.h"

namespace nodesnap::command {
namespace {

using hold::Mode;

constexpr unsigned kHighestPid = 1U << 22;  // the kernel's own limit

// What each option goes with.
struct Use {
    const char* name;
    bool freeze;
    bool stop;
    bool hook;
    bool goes_with(Mode mode) const {
        return (mode == Mode::kFreeze && freeze) || (mode == Mode::kStop && stop) || (mode == Mode::kHook && hook);
    }
};
constexpr Use kUses[] = {
    {"unit", true, true, false},
    {"pid", true, false, false},
    {"stop-command", false, true, false},
    {"start-command", false, true, false},
    {"status-command", false, true, false},
    {"before-command", false, false, true},
    {"after-command", false, false, true},
    {"max-downtime", true, true, true},
    {"stop-timeout", false, true, false},
    {"hook-timeout", false, true, true},
};

Mode mode_of(const Options& options) {
    const std::string text = options.text("hold", "none");
    for (const Mode mode : {Mode::kNone, Mode::kFreeze, Mode::kStop, Mode::kHook}) {
        if (text == name_of(mode)) {
            return mode;
        }
    }
    throw Error::usage("--hold: \"" + text + "\" is no way to hold the daemon", "none, freeze, stop and hook are");
}

std::string ways(const Use& use) {
    std::string text;
    for (const Mode mode : {Mode::kFreeze, Mode::kStop, Mode::kHook}) {
        if (use.goes_with(mode)) {
            text += (text.empty() ? "--hold " : " or --hold ") + std::string(name_of(mode));
        }
    }
    return text;
}

// One in a configuration file is for the calls that hold so.
void refuse_useless(const Options& options, Mode mode) {
    for (const Use& use : kUses) {
        if (options.given_in_call(use.name) && !use.goes_with(mode)) {
            throw Error::usage("--" + std::string(use.name) + " says nothing with --hold " + name_of(mode), "it goes with " + ways(use));
        }
    }
}

// Whether it counts, where two say what to hold: what was given in the call takes the place of what a configuration file says.
bool counts(const Options& options, const char* name, const std::vector<const char*>& others) {
    const auto in_call = [&](const char* other) { return options.given_in_call(other); };
    return options.given(name) && (options.given_in_call(name) || std::none_of(others.begin(), others.end(), in_call));
}

std::chrono::nanoseconds limit(const Options& options, const char* name, std::chrono::nanoseconds otherwise) {
    const auto given = options.duration(name).value_or(otherwise);
    if (options.given(name) && given.count() <= 0) {
        throw Error::usage("--" + std::string(name) + " is 0", "leave it out, or give it a duration, as in 10s");
    }
    return given;
}

void read_freeze(const Options& options, hold::Options& result) {
    if (counts(options, "unit", {"pid"})) {
        result.unit = options.text("unit");
    }
    if (counts(options, "pid", {"unit"})) {
        result.pid = static_cast<pid_t>(options.count("pid", 1, kHighestPid, 0));
    }
    if (result.unit.empty() == (result.pid == 0)) {
        throw Error::usage(result.unit.empty() ? "--hold freeze doesn't know what to freeze" : "--unit and --pid both say what to freeze",
                           "give --unit NAME, or --pid PID for the cgroup that a process is in");
    }
}

void read_stop(const Options& options, hold::Options& result) {
    constexpr const char* kHint = "give --unit NAME, or --stop-command and --start-command, with --status-command if there is one";
    if (counts(options, "unit", {"stop-command", "start-command", "status-command"})) {
        result.unit = options.text("unit");
    }
    const auto command = [&](const char* name) { return counts(options, name, {"unit"}) ? options.text(name) : ""; };
    result.before_command = command("stop-command");
    result.after_command = command("start-command");
    result.status_command = command("status-command");
    const bool any = !result.before_command.empty() || !result.after_command.empty() || !result.status_command.empty();
    if (!result.unit.empty() && any) {
        throw Error::usage("--unit is stopped and started by systemd, not by commands", kHint);
    }
    if (result.unit.empty() && !any) {
        throw Error::usage("--hold stop doesn't know what to stop", kHint);
    }
    if (any && (result.before_command.empty() || result.after_command.empty())) {
        throw Error::usage(result.before_command.empty() ? "--hold stop lacks a --stop-command" : "--hold stop lacks a --start-command",
                           kHint);
    }
    result.stop_timeout = limit(options, "stop-timeout", result.stop_timeout);
}

void read_hook(const Options& options, hold::Options& result) {
    result.before_command = options.text("before-command");
    result.after_command = options.text("after-command");
    if (result.before_command.empty() && result.after_command.empty()) {
        throw Error::usage("--hold hook has no command to run", "give --before-command, --after-command, or both");
    }
}

}  // namespace

void declare_hold(OptionSet& options) {
    options.value("hold", "HOW",
                  "keep the daemon from writing while the snapshot is taken, or, without one, while what has just changed is read: "
                  "freeze, stop, hook, or none (default: none)");
    options.value("unit", "NAME", "with --hold freeze or stop: the daemon's systemd unit");
    options.value("pid", "PID", "with --hold freeze: freeze the cgroup that this process is in");
    declare_stop_commands(options);
    options.value("before-command", "COMMAND", "with --hold hook: run before the snapshot");
    options.value("after-command", "COMMAND", "and after it, whatever became of that");
    options.value("max-downtime", "DURATION", "after so long the daemon is let go, whatever is still to be done (default: 10s)");
}

void declare_stop_commands(OptionSet& options) {
    options.value("stop-command", "COMMAND", "with --hold stop, without --unit: stops the daemon (run by /bin/sh)");
    options.value("start-command", "COMMAND", "starts it again");
    options.value("status-command", "COMMAND", "ends with 0 if it runs: what is down already stays down");
    options.value("stop-timeout", "DURATION", "with --hold stop: give up stopping it after so long (default: never)");
    options.value("hook-timeout", "DURATION", "how long a hook, or starting the daemon, may take (default: 5m)");
}

hold::Options hold_options(const Options& options) {
    hold::Options result;
    result.mode = mode_of(options);
    refuse_useless(options, result.mode);
    if (result.mode == Mode::kNone) {
        return result;
    }
    if (result.mode == Mode::kFreeze) {
        read_freeze(options, result);
    } else if (result.mode == Mode::kStop) {
        read_stop(options, result);
    } else {
        read_hook(options, result);
    }
    result.max_downtime = limit(options, "max-downtime", result.max_downtime);
    result.command_limit = limit(options, "hook-timeout", result.command_limit);
    return result;
}

}  // namespace nodesnap::command
