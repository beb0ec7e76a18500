#include "snapshot/hold/guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/pidfd.h"
#include "snapshot/hold/action.h"
#include "snapshot/hold/command_runner.h"
#include "snapshot/hold/intent.h"
#include "snapshot/hold/own_cgroups.h"
#include "snapshot/hold/protocol.h"
#include "snapshot/hold/release.h"

namespace nodesnap::hold {
namespace {

// Neither Ctrl-C, nor a low memory, nor a busy machine shall keep it from its work. What it could not have, as a warning.
std::string take_precautions() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU}) {
        ::signal(number, SIG_IGN);
    }
    ::prctl(PR_SET_NAME, "nodesnap-guard");
    std::string missing;
    if (::chdir("/") != 0) {
        missing += ", / as its directory";
    }
    sched_param normal{};
    ::sched_setscheduler(0, SCHED_OTHER, &normal);  // it may come from a nodesnap that gives way to everything
    if (::setpriority(PRIO_PROCESS, 0, -20) != 0) {
        missing += ", a high priority";
    }
    try {
        constexpr std::string_view kNever = "-1000";
        write_all(open_path("/proc/self/oom_score_adj", O_WRONLY).get(), std::as_bytes(std::span(kNever)), "oom_score_adj");
    } catch (const Error&) {
        missing += ", protection from the OOM killer";
    }
    if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        missing += ", locked memory";
    }
    return missing.empty() ? "" : "the guard runs without " + missing.substr(2);
}

class Guard {
public:
    Guard(const FileDescriptor& socket, Pidfd nodesnap, IntentFile file, Intent intent)
        : socket_(socket),
          nodesnap_(std::move(nodesnap)),
          file_(std::move(file)),
          intent_(std::move(intent)),
          action_(Action::of(
              intent_, {run_beside_guard, [this] { return abandoned(); }, [this](const Intent& begun) { file_.write(intent_ = begun); }})) {
    }

    int run(const std::string& warning) {
        try {
            nodesnap_.watch();
            const std::array<pid_t, 2> own{nodesnap_.pid(), ::getpid()};
            action_->prepare(own);
        } catch (const std::exception& error) {
            remove_intent();
            tell(Message::failure(error));
            return 0;
        }
        fault::step("guard.ready");
        Message ready;
        ready.kind = Kind::kReady;
        ready.set_text(warning);
        tell(ready);
        while (!done_) {
            try {
                wait();
            } catch (const std::exception& error) {
                // No memory, most likely. What is held is let go first; nothing that it takes for a freeze needs any.
                if (held_) {
                    let_go(Reason::kFailed);
                }
                fail(error);
            }
        }
        return intent_removed_ ? 0 : 1;
    }

private:
    // What is done next: on a message, on nodesnap's end, when --max-downtime is over, and when a release that has failed is tried again.
    void wait() {
        std::array<pollfd, 2> events{{{socket_.get(), POLLIN, 0}, {nodesnap_.get(), POLLIN, 0}}};
        ::poll(events.data(), answered_ ? 0 : events.size(), time_left_ms());
        if (owed_ && monotonic_ns() >= next_try_ns_) {
            let_go(reason_);
        }
        if (held_ && monotonic_ns() >= deadline_ns_) {
            let_go(Reason::kMaxDowntime);
            past_limit_ = true;
        }
        if (answered_) {
            if (!owed_) {
                remove_intent();
                done_ = true;
            }
            return;
        }
        Message message;
        const Receive received = receive_message(socket_.get(), message, 0);
        if (received == Receive::kMessage && message.kind == Kind::kHold && !asked_ && !nodesnap_.ended()) {
            asked_ = true;
            hold();
        } else if (received == Receive::kMessage && message.kind == Kind::kRelease) {
            finish(static_cast<Reason>(message.status));
        } else if (received == Receive::kGone || nodesnap_.ended() || (held_ && nodesnap_.is_dying())) {
            finish(Reason::kKilled);
        }
    }

    int time_left_ms() const {
        if (!held_ && !owed_) {
            return -1;
        }
        const std::int64_t until = owed_ ? next_try_ns_ : deadline_ns_;
        // While it is held nodesnap is looked at again and again: a thread of it in a system call that nothing interrupts, the clone of a
        // file of very many extents, say, keeps the rest from being told that it was killed.
        const int most = owed_ || answered_ ? INT_MAX : kLookMs;
        return static_cast<int>(std::clamp<std::int64_t>((until - monotonic_ns() + 999'999) / 1'000'000, 0, most));
    }

    void hold() {
        fault::step("guard.holding");
        try {
            const Held held = action_->hold([this] { tell_working(); });
            began_ns_ = held.began_ns;
            deadline_ns_ = held.limit_from_ns + intent_.max_downtime_ns;
            held_ = true;
        } catch (const std::exception& error) {
            let_go(Reason::kFailed);
            fail(error);
            return;
        }
        fault::step("guard.held");
        Message message;
        message.kind = Kind::kHeld;
        message.began_ns = began_ns_;
        tell(message);
    }

    // It could not be held, or not as long as it should: that was undone, or is going to be.
    void fail(const std::exception& error) noexcept {
        if (!answered_) {
            Message message = Message::failure(error);
            if (owed_) {
                message.add_text("; and then: ");
                message.add_text(failure_.text);
            }
            answer(message);
        }
    }

    // Lets go; where that fails it is tried again, for as long as it takes.
    void let_go(Reason reason) noexcept {
        held_ = false;
        reason_ = reason;
        try {
            fault::step("guard.releasing");
            action_->release(reason, [this] { tell_working(); });
            owed_ = false;
            released_ns_ = monotonic_ns();
            fault::step("guard.released");
        } catch (const std::exception& error) {
            failure_ = Message::failure(error);
            owed_ = true;
            next_try_ns_ = monotonic_ns() + pause_ns_;
            pause_ns_ = std::min(pause_ns_ * 2, kLongestPauseNs);
        }
    }

    // Whether it was held until now. Only for who wants to know: it may take memory and time.
    void find_out_whether_broken() {
        try {
            broken_ = action_->broken([this] { tell_working(); });
        } catch (const std::exception& error) {
            broken_ = std::string("whether it was held can't be told: ") + error.what();
        }
    }

    void finish(Reason reason) {
        if (held_) {
            if (reason == Reason::kDone) {
                find_out_whether_broken();
            }
            let_go(reason);
        } else if (owed_) {
            let_go(reason_);
        }
        if (owed_) {
            answer(failure_);
            return;
        }
        Message message;
        message.kind = Kind::kReleased;
        message.began_ns = began_ns_;
        message.released_ns = released_ns_;
        message.set_text(past_limit_ ? "the daemon was let go after --max-downtime, before the snapshot was done"
                                     : std::string_view(broken_));
        answer(message);
    }

    // What nodesnap hears of it, and with that all that it waits for, as long as something isn't let go. The guard stays for it then.
    void answer(Message message) noexcept {
        answered_ = true;
        if (owed_) {
            message.kind = Kind::kStillHeld;
            tell(message);
            return;
        }
        done_ = true;
        tell(message);
        remove_intent();
        if (message.kind == Kind::kReleased) {
            Message finished;
            finished.kind = Kind::kFinished;
            finished.set_text(warning_);
            tell(finished);
        }
    }

    void remove_intent() noexcept {
        action_.reset();  // and with it its locks: whoever gets the intent's next must not find theirs taken
        try {
            retire(file_, intent_);
            intent_removed_ = true;
            fault::step("guard.intent-removed");
        } catch (const Error& error) {
            warning_ = error.message();
        } catch (const std::exception&) {
            // Nothing was said of it, and nothing can be; whoever finds the intent undoes what isn't there any more.
        }
    }

    void tell(const Message& message) noexcept {
        try {
            send_message(socket_.get(), message);
        } catch (const std::exception&) {
            // Nobody hears it; what is to be done is the same.
        }
    }
    void tell_working() noexcept {
        if (const std::int64_t now = monotonic_ns(); now - told_ns_ >= kTellNs) {
            told_ns_ = now;
            tell({});
        }
    }
    bool abandoned() const {
        pollfd end{socket_.get(), POLLRDHUP, 0};
        return nodesnap_.ended() || nodesnap_.is_dying() || (::poll(&end, 1, 0) > 0 && (end.revents & (POLLHUP | POLLRDHUP)) != 0);
    }

    static constexpr int kLookMs = 10;
    static constexpr std::int64_t kTellNs = 400'000'000;
    static constexpr std::int64_t kLongestPauseNs = 30'000'000'000;

    const FileDescriptor& socket_;
    Pidfd nodesnap_;
    IntentFile file_;
    Intent intent_;
    std::unique_ptr<Action> action_;
    bool asked_ = false;       // to hold
    bool held_ = false;        // and not tried to let go yet
    bool owed_ = false;        // letting go has failed
    bool past_limit_ = false;  // it was let go, or should have been, because of --max-downtime
    bool answered_ = false;    // nodesnap waits for nothing any more
    bool done_ = false;
    bool intent_removed_ = false;
    std::int64_t told_ns_ = 0;  // that it is at work
    std::int64_t began_ns_ = 0;
    std::int64_t released_ns_ = 0;
    std::int64_t deadline_ns_ = 0;
    std::int64_t next_try_ns_ = 0;
    std::int64_t pause_ns_ = 200'000'000;
    Reason reason_ = Reason::kDone;
    std::string broken_;
    std::string warning_;
    Message failure_;
};

FileDescriptor inherited(const std::string& number) {
    const int fd = std::stoi(number);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return FileDescriptor(fd);
}

}  // namespace

int run_guard(const std::vector<std::string>& arguments) {
    if (arguments.size() != kGuardArguments) {
        return static_cast<int>(ExitStatus::kUsage);
    }
    const std::string warning = take_precautions();
    const FileDescriptor socket = inherited(arguments[0]);
    std::string id;
    int status = 1;
    try {
        Pidfd nodesnap = Pidfd::adopt(inherited(arguments[1]), std::stoi(arguments[2]));
        IntentFile file = IntentFile::adopt(inherited(arguments[3]), inherited(arguments[4]), arguments[5]);
        auto intent = file.read();
        if (!intent) {
            throw Error::damaged(arguments[5], "it was written a moment ago");
        }
        id = intent->id;
        fault::step("guard.started");
        status = Guard(socket, std::move(nodesnap), std::move(file), *std::move(intent)).run(warning);
    } catch (const std::exception& error) {
        try {
            send_message(socket.get(), Message::failure(error));
        } catch (const std::exception&) {
            // The end of the socket says it.
        }
    }
    leave_own_cgroup();
    remove_own_cgroups(id);
    return status;
}

}  // namespace nodesnap::hold
