// Ring: one thread's asynchronous I/O, on io_uring, with C++20 coroutines on top.
//
// A Ring belongs to the thread that made it. Coroutines spawned on it run in step() on that thread, one at a time; they await
// operations whose result is what the kernel says: >= 0, or a negative errno (never an exception: the caller knows the path to name).
// Operations on EINTR and EAGAIN are repeated inside. Where io_uring is forbidden (kernel.io_uring_disabled, seccomp) or
// force_blocking is set, every operation is done by the plain system call at the co_await, with the same results; uses_io_uring() tells.
// Opcodes that the running kernel lacks are done by the plain call too (probed at construction; 5.15 and up).
//
// Buffers of operations in flight must outlive them. The destructor abandons what is unfinished, after all completions.
// Bounds: at most `entries` operations in flight; more wait in a queue of suspended coroutines.
#pragma once

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/types.h>

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "io/task.h"

struct statx;

namespace nodesnap {

class Parked;

class Ring {
public:
    struct Options {
        unsigned entries = 256;
        bool force_blocking = false;
    };

    class Operation;  // awaitable; await_resume() returns std::int64_t: the kernel's result

    explicit Ring(const Options& options);
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring();

    bool uses_io_uring() const noexcept;
    const std::string& fallback_reason() const noexcept;  // empty while io_uring is used

    // Reads and writes whose buffer lies in the region are done with registered buffers. Once per ring, before the first operation.
    // Where the kernel refuses (memlock limit), plain buffers are used. The region must outlive the ring, or be unregistered by an empty
    // one while nothing is in flight.
    void register_region(std::span<std::byte> region);
    bool region_registered() const noexcept;

    Operation read(int fd, std::span<std::byte> into, std::uint64_t offset) noexcept;
    Operation write(int fd, std::span<const std::byte> from, std::uint64_t offset) noexcept;
    Operation open_at(int directory, const char* name, int flags, mode_t mode = 0) noexcept;
    Operation close(int fd) noexcept;
    Operation stat_at(int directory, const char* name, int flags, unsigned mask, struct statx* result) noexcept;
    Operation fsync(int fd, bool data_only) noexcept;
    Operation sync_range(int fd, std::uint64_t offset, std::uint64_t length) noexcept;  // starts write-back, doesn't wait for it
    Operation allocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept;
    Operation advise(int fd, std::uint64_t offset, std::uint64_t length, int advice) noexcept;
    Operation sleep(std::chrono::nanoseconds duration) noexcept;

    // Starts the task now (or, where spawns are nested deeply, within this step), owns it until it is done. The first exception that leaves
    // a spawned task ends all of them: they are abandoned, then step(), run() or wait() throws it, and the ring can be used again.
    void spawn(Task<void> task);
    // True when no spawned task is unfinished.
    bool idle() const noexcept;
    std::size_t running() const noexcept;  // spawned tasks that are unfinished
    // Submits what was queued, waits for at least one completion (if anything is in flight), resumes what can go on.
    void step();
    // step() until idle. Throws std::logic_error when tasks wait for something that nothing is left to bring about; they are abandoned. So
    // does step() after it found nothing to do a thousand times in a row.
    void run();
    // Spawns the task and runs only until it is done, then returns its value or throws its exception. Not from inside a coroutine.
    void wait(Task<void> task);
    template <typename T>
    T wait(Task<T> task);
    // Waits for the operations in flight (sleeps are cut short), then destroys all unfinished tasks where they are suspended, the newest
    // first (as the destructor does). For owners of things that the tasks refer to and that go away before the ring. Not from inside a
    // coroutine.
    void abandon() noexcept;

    // Resumes a suspended coroutine within this step or the next. For awaiters that are built on top of the ring.
    void schedule(Parked& waiter) noexcept;

private:
    friend class Operation;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

namespace detail {
template <typename T>
Task<void> keep_value(Task<T> task, std::optional<T>* value) {
    value->emplace(co_await std::move(task));
}
}  // namespace detail

template <typename T>
T Ring::wait(Task<T> task) {
    std::optional<T> value;
    wait(detail::keep_value<T>(std::move(task), &value));
    return std::move(*value);
}

}  // namespace nodesnap

#include "io/ring_operation.h"
