// AsyncSemaphore and AsyncEvent: waiting of coroutines for each other on one ring. First come, first served; no allocation per wait.
//
// A coroutine that is let go is resumed by the ring's next step(), not inside release() or set(). Must outlive those that wait; one thread.
#pragma once

#include <cstdint>
#include <utility>

#include "io/ring.h"
#include "io/wait_list.h"

namespace nodesnap {

// Units to be held: at most `units` at once. `auto units = co_await semaphore.acquire(n)` holds n until the Hold is destroyed. Someone
// who asks for many isn't overtaken by those who ask for few. Asking for more than there are in all waits until it has them all.
class AsyncSemaphore {
public:
    AsyncSemaphore(Ring& ring, std::uint64_t units) noexcept : ring_(ring), units_(units), free_(units) {}
    AsyncSemaphore(const AsyncSemaphore&) = delete;
    AsyncSemaphore& operator=(const AsyncSemaphore&) = delete;

    // Gives its units back when it is destroyed. Move-only.
    class [[nodiscard]] Hold {
    public:
        Hold() noexcept = default;
        Hold(AsyncSemaphore& semaphore, std::uint64_t units) noexcept : semaphore_(&semaphore), units_(units) {}
        Hold(Hold&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)), units_(std::exchange(other.units_, 0)) {}
        Hold& operator=(Hold&& other) noexcept {
            if (this != &other) {
                reset();
                semaphore_ = std::exchange(other.semaphore_, nullptr);
                units_ = std::exchange(other.units_, 0);
            }
            return *this;
        }
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;
        ~Hold() { reset(); }

        std::uint64_t units() const noexcept { return units_; }
        void reset() noexcept {
            if (semaphore_ != nullptr) {
                std::exchange(semaphore_, nullptr)->release(std::exchange(units_, 0));
            }
        }

    private:
        AsyncSemaphore* semaphore_ = nullptr;
        std::uint64_t units_ = 0;
    };

    class [[nodiscard]] Acquire : private Parked {
    public:
        Acquire(AsyncSemaphore& semaphore, std::uint64_t units) noexcept : semaphore_(semaphore), units_(units) {}
        ~Acquire() {
            if (granted_) {
                semaphore_.release(units_);  // was let go, but destroyed before it went on
            } else if (parked()) {
                leave();
                semaphore_.serve();  // those behind may fit now
            }
        }
        bool await_ready() noexcept { return granted_ = semaphore_.try_take(units_); }
        void await_suspend(std::coroutine_handle<> awaiting) noexcept {
            coroutine = awaiting;
            semaphore_.waiters_.push(*this);
        }
        Hold await_resume() noexcept {
            granted_ = false;
            return Hold(semaphore_, units_);
        }

    private:
        friend class AsyncSemaphore;
        AsyncSemaphore& semaphore_;
        std::uint64_t units_;
        bool granted_ = false;
    };

    Acquire acquire(std::uint64_t units = 1) noexcept { return Acquire(*this, units < units_ ? units : units_); }
    std::uint64_t available() const noexcept { return free_; }
    std::uint64_t units() const noexcept { return units_; }

private:
    bool try_take(std::uint64_t units) noexcept {
        if (!waiters_.empty() || units > free_) {
            return false;
        }
        free_ -= units;
        return true;
    }
    void release(std::uint64_t units) noexcept {
        free_ += units;
        serve();
    }
    void serve() noexcept {
        while (!waiters_.empty()) {
            auto& first = static_cast<Acquire&>(*waiters_.first());
            if (first.units_ > free_) {
                return;
            }
            free_ -= first.units_;
            first.granted_ = true;
            first.leave();
            ring_.schedule(first);
        }
    }

    Ring& ring_;
    std::uint64_t units_;
    std::uint64_t free_;
    WaitList waiters_;
};

// `co_await event.wait()` suspends until set(); once set, waiting costs nothing until reset().
class AsyncEvent {
public:
    explicit AsyncEvent(Ring& ring) noexcept : ring_(ring) {}
    AsyncEvent(const AsyncEvent&) = delete;
    AsyncEvent& operator=(const AsyncEvent&) = delete;

    class [[nodiscard]] Wait : private Parked {
    public:
        explicit Wait(AsyncEvent& event) noexcept : event_(event) {}
        bool await_ready() const noexcept { return event_.set_; }
        void await_suspend(std::coroutine_handle<> awaiting) noexcept {
            coroutine = awaiting;
            event_.waiters_.push(*this);
        }
        void await_resume() const noexcept {}

    private:
        AsyncEvent& event_;
    };

    Wait wait() noexcept { return Wait(*this); }
    void set() noexcept {
        set_ = true;
        while (!waiters_.empty()) {
            ring_.schedule(waiters_.pop());
        }
    }
    void reset() noexcept { set_ = false; }
    bool is_set() const noexcept { return set_; }

private:
    Ring& ring_;
    bool set_ = false;
    WaitList waiters_;
};

}  // namespace nodesnap
