#include "snapshot/hold/guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <memory>
#include <optional>
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
          action_(Action::of(intent_, {run_beside_guard, [this](const Intent& begun) { file_.write(intent_ = begun); }})) {}

    int run(const std::string& warning) {
        try {
            const std::array<pid_t, 2> own{nodesnap_.pid(), ::getpid()};
            action_->prepare(own);
        } catch (const Error& error) {
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
            wait();
        }
        return intent_removed_ ? 0 : 1;
    }

private:
    void wait() {
        std::array<pollfd, 2> events{{{socket_.get(), POLLIN, 0}, {nodesnap_.get(), POLLIN, 0}}};
        std::int64_t left_ms = -1;
        if (held_) {
            left_ms = std::max<std::int64_t>((deadline_ns_ - monotonic_ns() + 999'999) / 1'000'000, 0);
        }
        ::poll(events.data(), events.size(), static_cast<int>(std::min<std::int64_t>(left_ms, INT_MAX)));
        if (held_ && monotonic_ns() >= deadline_ns_) {
            broken_ = "the daemon was let go after --max-downtime, before the snapshot was done";
            end_hold(Reason::kMaxDowntime);
            return;
        }
        Message message;
        const Receive received = receive_message(socket_.get(), message, 0);
        if (received == Receive::kMessage && message.kind == Kind::kHold && began_ns_ == 0 && !nodesnap_.ended()) {
            hold();
        } else if (received == Receive::kMessage && message.kind == Kind::kRelease) {
            finish(static_cast<Reason>(message.status));
        } else if (received == Receive::kGone || nodesnap_.ended()) {
            finish(Reason::kKilled);
        }
    }

    void hold() {
        fault::step("guard.holding");
        try {
            const Held held = action_->hold([this] { tell_working(); });
            began_ns_ = held.began_ns;
            deadline_ns_ = held.limit_from_ns + intent_.max_downtime_ns;
            held_ = true;
        } catch (const Error& error) {
            fail(error);
            return;
        }
        fault::step("guard.held");
        Message message;
        message.kind = Kind::kHeld;
        message.began_ns = began_ns_;
        tell(message);
    }

    // It could not be held, or not in time: what was done of it is undone.
    void fail(const Error& error) {
        Message message = Message::failure(error);
        try {
            action_->release(Reason::kFailed, [this] { tell_working(); });
            remove_intent();
        } catch (const Error& second) {
            message = Message::failure(Error::failed(error.message() + "; and then: " + second.message(), second.hint()));
        }
        tell(message);
        done_ = true;
    }

    // Lets go, once, and finds out whether it was held until then.
    void end_hold(Reason reason) {
        fault::step("guard.releasing");
        if (broken_.empty()) {
            try {
                broken_ = action_->broken([this] { tell_working(); });
            } catch (const Error& error) {
                broken_ = "whether it was held can't be told: " + error.message();
            }
        }
        try {
            action_->release(reason, [this] { tell_working(); });
            released_ns_ = monotonic_ns();
            held_ = false;
            fault::step("guard.released");
        } catch (const Error& error) {
            failure_ = Message::failure(error);
            held_ = false;
        }
    }

    void finish(Reason reason) {
        done_ = true;
        if (held_) {
            end_hold(reason);
        }
        if (failure_) {
            tell(*failure_);
            return;
        }
        Message message;
        message.kind = Kind::kReleased;
        message.began_ns = began_ns_;
        message.released_ns = released_ns_;
        message.set_text(broken_);
        tell(message);
        remove_intent();
        message.kind = Kind::kFinished;
        message.set_text(warning_);
        tell(message);
    }

    void remove_intent() {
        action_.reset();  // and with it its locks: whoever gets the intent's next must not find theirs taken
        try {
            retire(file_, intent_);
            intent_removed_ = true;
            fault::step("guard.intent-removed");
        } catch (const Error& error) {
            warning_ = error.message();
        }
    }

    void tell(const Message& message) {
        try {
            send_message(socket_.get(), message);
        } catch (const Error&) {
            // Nobody hears it; what is to be done is the same.
        }
    }
    void tell_working() { tell({}); }

    const FileDescriptor& socket_;
    Pidfd nodesnap_;
    IntentFile file_;
    Intent intent_;
    std::unique_ptr<Action> action_;
    bool held_ = false;
    bool done_ = false;
    bool intent_removed_ = false;
    std::int64_t began_ns_ = 0;
    std::int64_t released_ns_ = 0;
    std::int64_t deadline_ns_ = 0;
    std::string broken_;
    std::string warning_;
    std::optional<Message> failure_;
};

FileDescriptor inherited(const std::string& number) {
    const int fd = std::stoi(number);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return FileDescriptor(fd);
}

}  // namespace

int run_guard(const std::vector<std::string>& arguments) {
    if (arguments.size() != 6) {
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
    } catch (const Error& error) {
        send_message(socket.get(), Message::failure(error));
    }
    leave_own_cgroup();
    remove_own_cgroups(id);
    return status;
}

}  // namespace nodesnap::hold
