#include "io/ring.h"

#include <stdexcept>

#include "io/ring_impl.h"
#include "platform/error.h"

namespace nodesnap {
namespace {

// Spawns within spawns that are resumed on each other's stack. A tree walk that spawns at each level must not overflow it.
constexpr unsigned kMaxNesting = 16;

// A caller of step() may still be about to wake the tasks that wait; one that does nothing of the kind so often never will.
constexpr unsigned kMaxIdleSteps = 1000;

struct Outcome {
    bool done = false;
    std::exception_ptr exception;
};

Task<void> watch(Task<void> task, Outcome* outcome) {
    try {
        co_await std::move(task);
    } catch (...) {
        outcome->exception = std::current_exception();
    }
    outcome->done = true;
}

}  // namespace

Ring::Ring(const Options& options) : impl_(std::make_unique<Impl>(options)) {}

Ring::~Ring() {
    impl_->abandon();
    if (impl_->broken) {
        // The kernel may still write to buffers, and frames can't be destroyed under it: they are left to the end of the process.
        static_cast<void>(impl_.release());
    }
}

bool Ring::uses_io_uring() const noexcept {
    return impl_->active;
}
const std::string& Ring::fallback_reason() const noexcept {
    return impl_->reason;
}
bool Ring::idle() const noexcept {
    return impl_->running == 0 && impl_->failure == nullptr;
}
std::size_t Ring::running() const noexcept {
    return impl_->running;
}

void Ring::spawn(Task<void> task) {
    Impl::drive(*impl_, std::move(task));
    Impl::Driver::promise_type& promise = *impl_->newest;
    auto coroutine = std::coroutine_handle<Impl::Driver::promise_type>::from_promise(promise);
    if (impl_->nesting < kMaxNesting) {
        impl_->resume(coroutine);
    } else {
        promise.start.coroutine = coroutine;
        impl_->ready.push(promise.start);
    }
}

void Ring::step() {
    if (impl_->advance() || impl_->running == 0) {
        impl_->idle_steps = 0;
    } else if (++impl_->idle_steps > kMaxIdleSteps) {
        impl_->idle_steps = 0;
        impl_->stalled();
    }
}

void Ring::run() {
    while (!idle()) {
        if (!impl_->advance()) {
            impl_->stalled();
        }
    }
}

void Ring::wait(Task<void> task) {
    if (impl_->nesting > 0) {
        throw std::logic_error("Ring::wait() was called inside a coroutine of a ring");
    }
    Outcome outcome;
    spawn(watch(std::move(task), &outcome));
    while (!outcome.done) {
        if (!impl_->advance()) {
            impl_->stalled();
        }
    }
    if (outcome.exception) {
        std::rethrow_exception(outcome.exception);
    }
}

void Ring::abandon() noexcept {
    impl_->abandon();
}
void Ring::schedule(Parked& waiter) noexcept {
    impl_->ready.push(waiter);
}

Ring::Impl::Driver Ring::Impl::drive(Impl& impl, Task<void> task) {
    try {
        co_await std::move(task);
    } catch (...) {
        if (!impl.failure) {
            impl.failure = std::current_exception();
        }
    }
}

bool Ring::Impl::advance() {
    if (nesting > 0) {
        throw std::logic_error("a ring was stepped inside one of its coroutines");
    }
    throw_failure();
    const bool could_go_on = !ready.empty();
    if (in_flight_count > 0) {
        submit(!could_go_on);
        reap();
    } else if (!could_go_on) {
        return false;
    }
    resume_ready();
    throw_failure();
    return true;
}

// Flat: a coroutine that makes another ready only puts it into the list.
void Ring::Impl::resume_ready() noexcept {
    while (!ready.empty() && !failure) {
        resume(ready.pop().coroutine);
    }
}

void Ring::Impl::resume(std::coroutine_handle<> coroutine) noexcept {
    ++nesting;
    coroutine.resume();
    --nesting;
}

void Ring::Impl::throw_failure() {
    if (failure) {
        abandon();
        std::rethrow_exception(std::exchange(failure, nullptr));
    }
}

void Ring::Impl::stalled() {
    abandon();
    throw std::logic_error("the ring's tasks wait for each other");
}

void Ring::Impl::abandon() noexcept {
    if (nesting > 0 || broken) {
        return;
    }
    abandoning = true;
    cancel_idle_operations();
    while (in_flight_count > 0 && !broken) {
        try {
            submit(true);
        } catch (...) {
            continue;  // broken
        }
        reap();
    }
    while (newest != nullptr && !broken) {
        std::coroutine_handle<Driver::promise_type>::from_promise(*newest).destroy();
    }
    abandoning = false;
}

}  // namespace nodesnap
