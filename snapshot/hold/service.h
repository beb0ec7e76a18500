// Service: a systemd unit, through systemctl, which may be any program that understands its arguments.
//
// Errors: Error::failed with systemctl's last line when it can't be asked.
// Threads: any. Privileges: those that systemd asks for to stop and start the unit: root, as a rule.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/program_run.h"

namespace nodesnap::hold {

class Service {
public:
    struct State {
        bool found = false;
        std::string active;         // ActiveState: "active", "inactive", "failed", "activating" ...
        std::string result;         // Result, of its last run: "success", "exit-code", "timeout", "signal", "core-dump" ...
        std::string control_group;  // its cgroup's path; empty while it doesn't run
        std::optional<std::int64_t> watchdog_ns;
        std::uint64_t active_since_us = 0;  // when it became active last, CLOCK_MONOTONIC; 0: not in this boot, or forgotten
        std::vector<std::string> reverse;   // units that go down when this one does, in whatever state they are
        bool running() const { return active == "active" || active == "reloading"; }
        // It was killed instead of having ended by itself, with whatever status.
        bool killed() const { return !result.empty() && result != "success" && result != "exit-code"; }
        bool stopped() const { return active == "inactive" || active == "failed"; }
    };

    // A name without a dot is a service's.
    Service(std::string systemctl, const std::string& unit);

    const std::string& unit() const { return unit_; }
    State state(const std::function<void()>& while_waiting = {}) const;
    // The units that go down with it, directly or through others, and run. At most kMostDependents; Error::refused beyond.
    std::vector<std::string> running_dependents() const;

    // What is to be run for it. It waits until it has stopped: a limit of 0 is none.
    ProgramRun stop(std::chrono::nanoseconds limit) const;
    // With others in one transaction, so that systemd orders them.
    ProgramRun reset_failed() const;  // so that systemd's limit of starts in a time doesn't stop it from being tried again
    ProgramRun start(const std::vector<std::string>& others, std::chrono::nanoseconds limit) const;

    static constexpr std::size_t kMostDependents = 64;

private:
    State state_of(const std::string& unit, const std::function<void()>& while_waiting = {}) const;

    std::string systemctl_;
    std::string unit_;
};

// "3min 20s", as systemctl writes a span of time; nullopt for "infinity", "0", and what isn't understood.
std::optional<std::int64_t> parse_systemd_span(std::string_view text);

}  // namespace nodesnap::hold
