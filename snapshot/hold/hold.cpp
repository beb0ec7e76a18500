#include "snapshot/hold/hold.h"

#include <utility>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/hold/resolve.h"

namespace nodesnap::hold {

Hold::Hold(const Options& options) {
    if (options.mode == Mode::kNone) {
        state_ = State::kDone;
        return;
    }
    lock(options);
    try {
        file_->write(intent_);
        fault::step("hold.intent-written");
        start_guard(options);
    } catch (const Error&) {
        if (guard_) {
            guard_->end();
        }
        file_->remove();  // nothing was held yet
        throw;
    }
    fault::step("hold.guard-ready");
}

namespace {

// Whether undoing the one is needed for knowing what the other finds.
bool about_the_same(const Intent& one, const Intent& other) {
    const auto same = [](const std::string& a, const std::string& b) { return !a.empty() && a == b; };
    return same(one.unit, other.unit) || same(one.cgroup, other.cgroup) || same(one.node_directory, other.node_directory);
}

}  // namespace

// Whatever was left behind is undone before anything is looked at: left under another mode or name it would be taken for how the daemon was
// before, and stay for ever, with every backup calling itself good.
std::vector<Left> Hold::undo_all_left(const Options& options) {
    std::vector<Left> failed;
    for (Left& left : undo_left(options.state_directory, 0)) {
        if (left.state == Left::State::kReleased) {
            warn_of_left(left.what, left.pid);
        } else if (left.state == Left::State::kFailed) {
            warnings_.push_back("what was left behind by a nodesnap that was killed could not be let go: " + left.error);
            failed.push_back(std::move(left));
        }
    }
    return failed;
}

void Hold::look_at_previous_state(const std::vector<Left>& failed) {
    for (const Left& left : failed) {
        if (!left.intent || about_the_same(*left.intent, intent_)) {
            throw Error::failed(left.error, left.hint);
        }
    }
    if (intent_.already && intent_.mode == Mode::kFreeze && !intent_.cgroup.empty()) {
        warnings_.push_back(intent_.what + " was frozen before, and not by nodesnap: nothing in it runs, and it stays so (echo 0 > " +
                            Cgroup::mount_point().value_or("") + intent_.cgroup + "/cgroup.freeze lets it go)");
    }
}

void Hold::lock(const Options& options) {
    const std::vector<Left> failed = undo_all_left(options);
    const std::string name = intent_name(options.mode, key_of(options));
    file_ = IntentFile::lock(options.state_directory, name, monotonic_ns() + options.wait_for_others.count());
    if (!file_) {
        const auto other = peek(options.state_directory, name);
        throw Error::refused((other ? other->what + " is held by another nodesnap, process " + std::to_string(other->pid)
                                    : std::string("another nodesnap is about to hold the same")),
                             "wait until it is done; if it was killed, run `nodesnap release`");
    }
    if (file_->read()) {
        if (const auto left = undo(*file_)) {
            warn_of_left(left->what, left->pid);
        }
        file_.reset();
        lock(options);  // the file is gone with its name
        return;
    }
    // Only under the lock: what another has stopped or frozen isn't the previous state.
    intent_ = resolve(options);
    if (options.mode == Mode::kFreeze && options.unit.empty() && intent_name(options.mode, intent_.cgroup) != name) {
        throw Error::refused("process " + std::to_string(options.pid) + " was moved to another cgroup meanwhile", "try again");
    }
    look_at_previous_state(failed);
}

void Hold::warn_of_left(const std::string& what, std::int64_t pid) {
    warnings_.push_back(what + " was still held by a nodesnap that was killed, process " + std::to_string(pid) + "; it was let go first");
}

void Hold::start_guard(const Options& options) {
    guard_ = std::make_unique<GuardProcess>(options.guard_program, *file_, intent_.id);
    const auto ready = guard_->receive();
    if (ready && ready->kind == Kind::kReady) {
        for (const std::string& warning : {guard_->warning(), std::string(ready->text)}) {
            if (!warning.empty()) {
                warnings_.push_back(warning);
            }
        }
        return;
    }
    throw ready ? ready->error() : Error::failed("the guard that would let " + intent_.what + " go could not be started");
}

Hold::~Hold() {
    try {
        if (state_ == State::kHeld) {
            finish(Reason::kFailed);
        } else if (state_ == State::kPrepared && guard_) {
            Message message;
            message.kind = Kind::kRelease;
            message.status = static_cast<std::int32_t>(Reason::kFailed);
            if (guard_->send(message)) {
                wait_for_finished({});
            }
        }
        // kAsked: it was interrupted while a stop goes on. That isn't cut short; the guard starts the daemon when it is done.
    } catch (const Error&) {
        // Either the guard, or whoever comes next and finds the intent, lets it go.
    }
}

void Hold::hold() {
    if (state_ != State::kPrepared) {
        return;
    }
    Message ask;
    ask.kind = Kind::kHold;
    if (let_go_) {
        throw Error::failed(intent_.what + " wasn't held: it was to be let go already");
    }
    state_ = State::kAsked;
    fault::step("hold.asking");
    if (!guard_->send(ask)) {
        take_over("the guard has ended");
    }
    fault::step("hold.asked");
    const auto answer = guard_->receive(true);
    if (!answer) {
        take_over("the guard has ended, or doesn't answer");
    }
    if (answer->kind != Kind::kHeld) {
        fail(*answer);
    }
    state_ = State::kHeld;
    fault::step("hold.held");
}

Result Hold::release() {
    if (state_ == State::kDone || state_ == State::kPrepared) {
        return {};
    }
    fault::step("hold.releasing");
    return finish(Reason::kDone);
}

void Hold::let_go_now() noexcept {
    if (guard_ && !let_go_.exchange(true)) {
        guard_->abandon();
    }
}

Result Hold::finish(Reason reason) {
    Message ask;
    ask.kind = Kind::kRelease;
    ask.status = static_cast<std::int32_t>(reason);
    if (!guard_->send(ask) && !let_go_) {
        take_over("the guard has ended");
    }
    const auto answer = guard_->receive();
    if (!answer) {
        take_over("the guard has ended, or doesn't answer");
    }
    state_ = State::kDone;
    fault::step("hold.released");
    if (answer->kind != Kind::kReleased) {
        fail(*answer);
    }
    return wait_for_finished(*answer);
}

Result Hold::wait_for_finished(const Message& released) {
    state_ = State::kDone;
    for (auto message = guard_->receive(); message; message = guard_->receive()) {
        if (message->kind == Kind::kFinished) {
            if (message->text[0] != '\0') {
                warnings_.emplace_back(message->text);
            }
            break;
        }
    }
    guard_->wait();
    fault::step("hold.finished");
    const bool unbroken = released.kind == Kind::kReleased && released.began_ns != 0 && released.text[0] == '\0';
    const std::chrono::nanoseconds downtime(released.released_ns - released.began_ns);
    return let_go_ ? Result{downtime, false, "it was let go before the snapshot was done"} : Result{downtime, unbroken, released.text};
}

void Hold::fail(const Message& answer) {
    state_ = State::kDone;
    const Error error = answer.error();
    if (answer.kind == Kind::kStillHeld) {
        throw Error::failed(error.message() + "; its guard, process " + std::to_string(guard_->pid()) + ", goes on trying", error.hint());
    }
    guard_->wait();
    throw answer.error();
}

void Hold::take_over(const std::string& why) {
    state_ = State::kDone;
    if (!guard_->end()) {
        throw Error::failed(why + " and can't be ended; " + intent_.what + " may still be held", "run `nodesnap release`");
    }
    guard_->wait_for_its_command();  // a stop that is under way would come after the start
    undo(*file_);                    // its error says that the daemon may still be held
    throw Error::failed(why + "; " + intent_.what + " was let go without it", "look into the kernel's log (dmesg) for what has ended it");
}

}  // namespace nodesnap::hold
