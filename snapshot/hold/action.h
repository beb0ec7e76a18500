// Action: carries out one intent: holds, looks whether the hold has lasted, and lets go. Used by the guard; by nodesnap when its guard is
// gone; and by `nodesnap release`.
//
// hold() is called at most once, release() at any time and as often as needed, also without hold() and in another process than it: it
// restores what the intent says was before, if by its phase anything may have been done. Neither may be called by two processes at once;
// the intent's lock sees to that.
//
// Errors: nodesnap::Error. Threads: one. Privileges: as the mode needs: write access to the cgroup, or what systemd or the commands ask
// for.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "platform/program_run.h"
#include "snapshot/hold/intent.h"

namespace nodesnap::hold {

// Run as a program of its own by who lets go, with the reason and the intent's directory, pid and start of nodesnap.
inline constexpr const char* kMountBack = "mount-back";
inline constexpr std::size_t kMountBackArguments = 4;

enum class Reason { kDone, kFailed, kKilled, kMaxDowntime, kLeftBehind };
const char* name_of(Reason reason) noexcept;  // "done", "failed", "killed", "max-downtime", "left-behind"

// When the downtime began, and from when --max-downtime counts; monotonic_ns().
struct Held {
    std::int64_t began_ns = 0;
    std::int64_t limit_from_ns = 0;
};

// What the process that carries it out adds.
struct Surroundings {
    std::function<ProgramResult(const ProgramRun&)> run = run_program;  // for what stops and starts, before and after
    // Whether nobody waits for the hold any more: asked while it comes about. A freeze and a hook are given up then; a stop never is.
    std::function<bool()> abandoned = [] { return false; };
    // Makes durable that what the intent says has begun; called directly before the first change. Throws: then nothing is changed.
    std::function<void(const Intent&)> begin;
};

using WhileWaiting = std::function<void()>;  // called at least once a second, maybe far more often, while something is waited for

class Action {
public:
    static std::unique_ptr<Action> of(const Intent& intent, const Surroundings& surroundings = {});
    virtual ~Action() = default;
    Action(const Action&) = delete;
    Action& operator=(const Action&) = delete;

    // Opens and locks what will be needed. Error::refused if another holds it, or it may not be held; `own`: nodesnap and its guard.
    virtual void prepare(std::span<const pid_t> own) = 0;
    // Throws if it could not be held, or isn't any more what the intent says. Then too release() must be called.
    Held hold(const WhileWaiting& waiting) {
        touched_ = false;
        return do_hold(waiting);
    }
    // Why what was held may have run since; "" if it hasn't.
    virtual std::string broken(const WhileWaiting& waiting) = 0;
    // Throws if the daemon may still be held: then it can be called again. Nothing if hold() has failed before it touched anything.
    void release(Reason reason, const WhileWaiting& waiting) {
        if (touched_ && !intent_.already) {
            do_release(reason, waiting);
        }
    }

protected:
    Action(const Intent& intent, Surroundings surroundings);
    virtual Held do_hold(const WhileWaiting& waiting) = 0;
    virtual void do_release(Reason reason, const WhileWaiting& waiting) = 0;
    // Before something is started. Throws: then it must not be.
    void mount_back(Reason reason, const WhileWaiting& waiting) const;
    void touching();  // from do_hold(), directly before the first change

    const Intent& intent() const { return intent_; }
    bool abandoned() const { return surroundings_.abandoned(); }
    ProgramResult run(const ProgramRun& program) const { return surroundings_.run(program); }
    Intent& intent() { return intent_; }
    std::chrono::nanoseconds command_limit() const { return std::chrono::nanoseconds(intent_.command_limit_ns); }
    // In the environment of the intent's commands.
    std::vector<std::string> environment(const char* hold_or_release, const char* reason) const;

private:
    Intent intent_;
    Surroundings surroundings_;
    bool touched_;  // as long as hold() wasn't called here, whether another process may have
};

std::unique_ptr<Action> make_freeze(const Intent& intent, const Surroundings& surroundings);
std::unique_ptr<Action> make_unit_stop(const Intent& intent, const Surroundings& surroundings);
std::unique_ptr<Action> make_commands(const Intent& intent, const Surroundings& surroundings);  // stop by commands, and hooks

}  // namespace nodesnap::hold
