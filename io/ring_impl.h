// Ring::Impl: what a Ring owns. For io/ring*.cpp only.
#pragma once

#include <liburing.h>

#include <bitset>
#include <exception>
#include <string>

#include "io/ring.h"

namespace nodesnap {

struct Ring::Impl {
    explicit Impl(const Options& options);
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl();

    // The coroutine that owns a spawned task. The newest is first in the list, so that it is destroyed first.
    struct Driver {
        struct promise_type;
    };
    static Driver drive(Impl& impl, Task<void> task);

    bool set_up(unsigned wanted) noexcept;  // false: reason says why not
    void probe() noexcept;
    bool offers(const Operation& operation) const noexcept;
    bool in_region(const std::byte* data, std::uint64_t length) const noexcept;

    void start(Operation& operation) noexcept;
    bool launch(Operation& operation) noexcept;  // false: the submission queue is full
    void submit(bool wait);
    void reap() noexcept;
    void complete(Operation& operation, int result) noexcept;
    bool must_repeat(Operation& operation, int result) const noexcept;
    void cancel_idle_operations() noexcept;

    bool advance();  // one step; false when there was nothing that could go on
    void resume_ready() noexcept;
    void resume(std::coroutine_handle<> coroutine) noexcept;
    void throw_failure();
    void abandon() noexcept;
    [[noreturn]] void stalled();

    io_uring uring{};
    bool active = false;      // io_uring is used
    bool broken = false;      // the kernel no longer takes submissions, so what is in flight can't be waited for
    bool abandoning = false;  // completions aren't followed up
    std::string reason;
    std::bitset<256> opcodes;
    unsigned entries = 0;
    std::span<std::byte> region;

    WaitList ready;      // coroutines that can go on
    WaitList waiting;    // operations that wait for room
    WaitList in_flight;  // operations that the kernel has, or will have with the next submit
    unsigned in_flight_count = 0;

    Driver::promise_type* newest = nullptr;
    std::size_t running = 0;
    unsigned idle_steps = 0;  // steps in a row in which nothing could go on
    unsigned nesting = 0;     // resumptions on the stack: spawn() resumes too
    std::exception_ptr failure;
};

struct Ring::Impl::Driver::promise_type {
    promise_type(Impl& impl, Task<void>&) noexcept : owner(impl), older(impl.newest) {
        if (older != nullptr) {
            older->newer = this;
        }
        owner.newest = this;
        ++owner.running;
    }
    promise_type(const promise_type&) = delete;
    promise_type& operator=(const promise_type&) = delete;
    ~promise_type() {
        (newer != nullptr ? newer->older : owner.newest) = older;
        if (older != nullptr) {
            older->newer = newer;
        }
        --owner.running;
    }

    Driver get_return_object() const noexcept { return {}; }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }

    Impl& owner;
    promise_type* older;
    promise_type* newer = nullptr;
    Parked start;  // in `ready` until the task is started, when it isn't at once
};

}  // namespace nodesnap
