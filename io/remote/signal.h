// Signal: what one thread says once to a coroutine on another's ring, or to a thread that waits for it.
//
// set() may be called from any thread, once; one waiter. The Signal must outlive the wait. Errors: Error::system.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>

#include "io/ring.h"
#include "io/task.h"
#include "platform/file_descriptor.h"

namespace nodesnap {

class Signal {
public:
    Signal();
    void set() noexcept;
    void wait();
    // If the ring is abandoned meanwhile, the coroutine's end waits for set(), too: what it announces may be memory that is done with.
    Task<void> wait(Ring& ring);

private:
    void settle() { const std::lock_guard until_set_returned(mutex_); }

    std::mutex mutex_;  // held while it is set: what was written before is seen by who waited, and set() is done with this object
    FileDescriptor event_;
    std::array<std::byte, 8> count_{};  // as it was read; not zero once it was set
};

}  // namespace nodesnap
