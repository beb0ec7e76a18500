// Ring::Operation: one operation on its way; what Ring::read() and its like return, to be awaited once.
//
// It lives in the awaiting coroutine's frame: nothing is allocated for it. What its pointers point to (buffer, name, statx) must stay
// until it is done. An operation that isn't awaited isn't done. Where the awaiting coroutine is destroyed before it goes on, a file that
// was opened for it is closed, and one that it wanted to close is closed too. Included by ring.h.
#pragma once

#include <linux/time_types.h>

#include "io/ring.h"
#include "io/wait_list.h"

struct io_uring_sqe;

namespace nodesnap {

class [[nodiscard]] Ring::Operation : private Parked {
public:
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    ~Operation();

    // True when it is done already: by a plain system call, or because it was made to fail.
    bool await_ready() noexcept;
    void await_suspend(std::coroutine_handle<> awaiting) noexcept;
    std::int64_t await_resume() noexcept {
        state_ = State::kTaken;
        return result_;
    }

private:
    friend class Ring;
    friend struct Ring::Impl;

    enum class Kind : std::uint8_t { kRead, kWrite, kOpen, kClose, kStat, kSync, kSyncRange, kAllocate, kAdvise, kSleep };
    enum class State : std::uint8_t { kNew, kQueued, kInFlight, kDone, kTaken };

    struct Request {
        Kind kind;
        int fd = -1;        // or the directory
        int flags = 0;      // or the mode of an allocation, or the advice
        unsigned mode = 0;  // or the mask of a stat
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        std::byte* into = nullptr;
        const std::byte* from = nullptr;
        const char* name = nullptr;
        struct statx* stat = nullptr;
        __kernel_timespec duration{};
    };

    Operation(Ring& ring, const Request& request) noexcept : ring_(*ring.impl_), request_(request) {}

    std::int64_t execute() noexcept;                   // the plain system call
    void prepare(io_uring_sqe* entry) const noexcept;  // the same for io_uring
    void prepare_transfer(io_uring_sqe* entry) const noexcept;

    Ring::Impl& ring_;
    Request request_;
    State state_ = State::kNew;
    bool polling_ = false;  // waits until a descriptor that said EAGAIN is ready
    std::int64_t result_ = 0;
};

}  // namespace nodesnap
