// Hold: keeps a daemon from writing, from hold() to release(), and has it come back whatever happens between.
//
//     Hold held(options);           // refuses, or is ready; the daemon still runs
//     ... all that can be done before
//     held.hold();
//     ... the snapshot
//     const Result result = held.release();
//     if (!result.point_in_time) ... the snapshot must not be called one; result.broken says why
//
// The daemon is let go by the guard, a process of its own, when release() is called, when this object or the process ends, and when
// max_downtime is over. Between hold() and release() nothing should be printed, and no more done than must be.
//
// Errors: Error::refused when it may not be held; Error::failed when it could not be, after which all is as before; when it may still be
// held the message says so. Threads: one at a time. Privileges: root, as a rule; see action.h.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/hold/action.h"
#include "snapshot/hold/guard_process.h"
#include "snapshot/hold/intent.h"
#include "snapshot/hold/options.h"
#include "snapshot/hold/release.h"

namespace nodesnap::hold {

struct Result {
    std::chrono::nanoseconds downtime{0};
    // What was held stood still from hold() to release(): the guard has said so. Never before it has, and never without a hold.
    bool point_in_time = false;
    std::string broken;  // why what was held may have run before release(); "" if it hasn't, or if nothing was held
};

class Hold {
public:
    explicit Hold(const Options& options);
    ~Hold();  // lets go
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    const Intent& intent() const { return intent_; }  // what will be held, exactly; says nothing for Mode::kNone
    // What will be held ("unit qdbd.service", "cgroup /a"); "" for Mode::kNone.
    const std::string& what() const { return intent_.what; }
    bool already() const { return intent_.already; }  // it is frozen, or doesn't run, now: it stays so
    // That a hold which somebody had left behind was undone; what the guard has to do without.
    const std::vector<std::string>& warnings() const { return warnings_; }

    void hold();
    Result release();
    // Has the guard let go now, whatever another thread is about: release() then tells that it was no point in time. Any thread.
    void let_go_now() noexcept;

private:
    enum class State { kPrepared, kAsked, kHeld, kDone };

    void lock(const Options& options);
    std::vector<Left> undo_all_left(const Options& options);  // those that could not be undone
    void look_at_previous_state(const std::vector<Left>& failed);
    void warn_of_left(const std::string& what, std::int64_t pid);
    void start_guard(const Options& options);
    Result finish(Reason reason);
    [[noreturn]] void fail(const Message& answer);
    // The guard is gone, or doesn't answer: what it would have done is done here. Says how that went.
    [[noreturn]] void take_over(const std::string& why);
    Result wait_for_finished(const Message& released);

    Intent intent_;
    std::optional<IntentFile> file_;
    std::unique_ptr<GuardProcess> guard_;
    std::vector<std::string> warnings_;
    State state_ = State::kPrepared;
    std::atomic<bool> let_go_{false};  // by let_go_now()
};

}  // namespace nodesnap::hold
