// Holding by stopping: a systemd unit, or whatever the operator's commands stop; and the operator's hooks, which are commands too.
#include <unistd.h>

#include <optional>
#include <utility>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "platform/program_run.h"
#include "snapshot/hold/action.h"
#include "snapshot/hold/cgroup_lock.h"
#include "snapshot/hold/own_cgroups.h"
#include "snapshot/hold/service.h"

namespace nodesnap::hold {
namespace {

constexpr int kStartAttempts = 3;
constexpr useconds_t kStartPauseUs = 200'000;

const char* const kStartHint = "look for the cause, or start it by hand";

// Calls until the program succeeds, a few times. Its last result.
template <typename Start>
ProgramResult try_to_start(Start start) {
    for (int attempt = 1;; ++attempt) {
        ProgramResult result = start();
        if (result.succeeded() || attempt == kStartAttempts) {
            return result;
        }
        ::usleep(kStartPauseUs);
    }
}

class UnitStop : public Action {
public:
    UnitStop(const Intent& intent, const Surroundings& surroundings)
        : Action(intent, surroundings), service_(intent.systemctl, intent.unit) {}

    void prepare(std::span<const pid_t>) override {
        if (!intent().cgroup.empty()) {
            lock_ = CgroupLock(intent().cgroup);
        }
    }

    Held do_hold(const WhileWaiting& waiting) override {
        const Service::State before = service_.state(waiting);
        if (intent().already ? !before.stopped() : !before.running()) {
            throw Error::failed(intent().what + " is " + before.active + ": it was started or stopped while the backup was prepared");
        }
        const std::int64_t began = monotonic_ns();
        if (!intent().already) {
            intent().active_since_us = before.active_since_us;
            touching();
            fault::step("hold.stop");
            ProgramRun stop = service_.stop(std::chrono::nanoseconds(intent().stop_timeout_ns));
            stop.while_waiting = waiting;
            const ProgramResult stopped = run(stop);
            fault::step("hold.stopping");
            const Service::State state = service_.state(waiting);
            if (!stopped.succeeded() || !state.stopped()) {
                throw Error::failed(
                    "cannot stop " + intent().what + ": " + (stopped.succeeded() ? "it is " + state.active : stopped.explanation()),
                    "see systemctl status " + intent().unit);
            }
            if (state.killed()) {
                throw Error::failed(intent().what + " did not stop gracefully: it was killed (" + state.result + ")",
                                    "if it was for systemd's limit, set TimeoutStopSec=infinity for the unit");
            }
        }
        return {began, monotonic_ns()};
    }

    std::string broken(const WhileWaiting& waiting) override {
        const Service::State now = service_.state(waiting);
        const bool active_again = now.active_since_us != 0 && now.active_since_us != intent().active_since_us;
        return now.stopped() && !active_again ? "" : intent().what + " was started by something else";
    }

    void do_release(Reason reason, const WhileWaiting& waiting) override {
        if (reason == Reason::kLeftBehind && was_active_since(service_.state(waiting))) {
            return;  // somebody has started it; that it is down again, if it is, is theirs
        }
        mount_back(reason, waiting);
        ProgramRun start = service_.start(intent().dependents, command_limit());
        start.while_waiting = waiting;
        const ProgramResult result = try_to_start([&] {
            if (std::exchange(tried_, true)) {
                ProgramRun reset = service_.reset_failed();
                reset.while_waiting = waiting;
                run(reset);
            }
            return run(start);
        });
        if (!result.succeeded()) {
            throw Error::failed("cannot start " + intent().what + ": " + result.explanation(), kStartHint);
        }
    }

private:
    // 0 says nothing: systemd forgets a unit that is down and that nothing else refers to.
    bool was_active_since(const Service::State& now) const {
        const bool same_boot = intent().boot_id == boot_id();
        return now.active_since_us != 0 &&
               (!same_boot || (intent().active_since_us != 0 && now.active_since_us != intent().active_since_us));
    }

    Service service_;
    bool tried_ = false;  // to start it
    CgroupLock lock_;
};

class Commands : public Action {
public:
    Commands(const Intent& intent, const Surroundings& surroundings) : Action(intent, surroundings) {}

    void prepare(std::span<const pid_t>) override {}

    Held do_hold(const WhileWaiting& waiting) override {
        if (!intent().status_command.empty() && running(waiting) == intent().already) {
            throw Error::failed(intent().what + " was started or stopped while the backup was prepared");
        }
        const std::int64_t began = monotonic_ns();
        if (!intent().already && !intent().before_command.empty()) {
            const bool stop = intent().mode == Mode::kStop;
            const auto limit = stop ? std::chrono::nanoseconds(intent().stop_timeout_ns) : command_limit();
            touching();
            fault::step("hold.stop");
            ProgramRun before = shell(intent().before_command, environment("hold", "backup"), limit, waiting);
            if (!stop) {
                before.give_up = [this] { return abandoned(); };
            }
            const ProgramResult result = run(before);
            fault::step("hold.stopping");
            if (!result.succeeded()) {
                throw Error::failed(
                    (stop ? "the stop command \"" : "the hook before \"") + intent().before_command + "\" failed: " + result.explanation(),
                    "nothing was backed up; run it by hand to see what is wrong");
            }
            if (stop && !intent().status_command.empty() && running(waiting)) {
                throw Error::failed("the status command says that " + intent().what + " still runs after the stop command");
            }
        }
        return {began, monotonic_ns()};
    }

    std::string broken(const WhileWaiting& waiting) override {
        const bool started = !intent().status_command.empty() && running(waiting);
        return started ? intent().what + " was started by something else" : "";
    }

    void do_release(Reason reason, const WhileWaiting& waiting) override {
        if (intent().after_command.empty()) {
            return;
        }
        const bool may_run = reason == Reason::kLeftBehind || std::exchange(tried_, true);
        if (may_run && !intent().status_command.empty() && running(waiting)) {
            return;
        }
        mount_back(reason, waiting);
        // What a start command leaves behind, the daemon, shall be in no cgroup that ends with nodesnap.
        std::optional<Cgroup> home;
        if (intent().mode == Mode::kStop) {
            home = make_daemon_cgroup(intent().id);
        }
        ProgramRun after = shell(intent().after_command, environment("release", name_of(reason)), command_limit(), waiting);
        after.cgroup_procs = home ? home->procs_descriptor() : -1;
        const ProgramResult result = try_to_start([&] { return run(after); });
        if (!result.succeeded()) {
            throw Error::failed((intent().mode == Mode::kStop ? "the start command \"" : "the hook after \"") + intent().after_command +
                                    "\" failed: " + result.explanation(),
                                kStartHint);
        }
    }

private:
    static ProgramRun shell(const std::string& command, std::vector<std::string> environment, std::chrono::nanoseconds limit,
                            const WhileWaiting& waiting) {
        return {{"/bin/sh", "-c", command}, std::move(environment), limit, -1, waiting};
    }

    bool running(const WhileWaiting& waiting) const {
        const ProgramResult result = run_program(shell(intent().status_command, environment("status", "backup"), command_limit(), waiting));
        if (result.timed_out || result.exit_code < 0 || result.exit_code == 127) {
            throw Error::failed("the status command \"" + intent().status_command + "\" failed: " + result.explanation());
        }
        return result.exit_code == 0;
    }

    bool tried_ = false;  // to start it
};

}  // namespace

std::unique_ptr<Action> make_unit_stop(const Intent& intent, const Surroundings& surroundings) {
    return std::make_unique<UnitStop>(intent, surroundings);
}

std::unique_ptr<Action> make_commands(const Intent& intent, const Surroundings& surroundings) {
    return std::make_unique<Commands>(intent, surroundings);
}

}  // namespace nodesnap::hold
