#include "io/remote/signal.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "platform/error.h"

namespace nodesnap {
namespace {

struct WaitAnyhow {
    Signal& signal;
    bool needed = true;
    ~WaitAnyhow() {
        if (needed) {
            try {
                signal.wait();
            } catch (const Error&) {  // nothing that a descriptor of ours gives
            }
        }
    }
};

}  // namespace

Signal::Signal() : event_(::eventfd(0, EFD_CLOEXEC)) {
    if (!event_) {
        throw Error::system("make", "an event", errno);
    }
}

void Signal::set() noexcept {
    const std::uint64_t one = 1;
    const std::lock_guard lock(mutex_);
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
}

void Signal::wait() {
    // An operation that was given up may have taken it.
    while (count_ == decltype(count_){} && ::read(event_.get(), count_.data(), count_.size()) < 0) {
        if (errno != EINTR) {
            throw Error::system("wait for", "an event", errno);
        }
    }
    settle();
}

Task<void> Signal::wait(Ring& ring) {
    if (!ring.uses_io_uring()) {
        wait();  // a plain read at an offset, as the ring does it, isn't for events
        co_return;
    }
    WaitAnyhow unless_set{*this};
    const std::int64_t count = co_await ring.read(event_.get(), count_, 0);
    unless_set.needed = count < 0;
    if (count < 0) {
        throw Error::system("wait for", "an event", static_cast<int>(-count));
    }
    settle();
}

}  // namespace nodesnap
