// BufferPool: a ring's data buffers: one mapped region, in huge pages where the kernel has them, registered with the ring.
//
// acquire() gives a Buffer, or suspends until one is free; the first to wait is the first served. A Buffer goes back to its pool when it
// is destroyed. One thread, the ring's. A ring takes one registered region, so it has one pool; the pool must be made before the ring's
// first operation. Declare the pool before the ring's tasks' other state and let Ring::run() end before it goes: it must outlive its
// buffers. Its destructor drives the ring while an operation may still use the region.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "io/ring.h"
#include "io/wait_list.h"

namespace nodesnap {

class BufferPool;

// A buffer at a multiple of 4096. Empty after it was moved from.
class Buffer {
public:
    Buffer() noexcept = default;
    Buffer(Buffer&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        if (this != &other) {
            reset();
            pool_ = std::exchange(other.pool_, nullptr);
            data_ = std::exchange(other.data_, nullptr);
        }
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { reset(); }

    explicit operator bool() const noexcept { return data_ != nullptr; }
    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept;
    std::span<std::byte> span() const noexcept { return {data_, size()}; }
    void reset() noexcept;  // gives it back

private:
    friend class BufferPool;
    Buffer(BufferPool& pool, std::byte* data) noexcept : pool_(&pool), data_(data) {}

    BufferPool* pool_ = nullptr;
    std::byte* data_ = nullptr;
};

class BufferPool {
public:
    struct Options {
        std::size_t count = 16;
        std::size_t buffer_bytes = std::size_t{1} << 20;  // a multiple of 4096
    };

    // Throws Error when the memory can't be had.
    BufferPool(Ring& ring, const Options& options);
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;
    ~BufferPool();

    class Acquire;
    Acquire acquire() noexcept;     // co_await gives a Buffer
    Buffer try_acquire() noexcept;  // an empty one if none is free
    std::size_t available() const noexcept { return free_count_; }
    std::size_t count() const noexcept { return options_.count; }
    std::size_t buffer_bytes() const noexcept { return options_.buffer_bytes; }

private:
    friend class Buffer;
    friend class Acquire;
    void put(std::byte* data) noexcept;
    std::byte* take() noexcept;

    Ring& ring_;
    Options options_;
    std::byte* region_ = nullptr;
    std::size_t region_bytes_ = 0;
    std::byte* free_ = nullptr;  // a list through the first bytes of the free buffers
    std::size_t free_count_ = 0;
    WaitList waiters_;
};

class [[nodiscard]] BufferPool::Acquire : private Parked {
public:
    explicit Acquire(BufferPool& pool) noexcept : pool_(pool) {}
    Acquire(const Acquire&) = delete;
    Acquire& operator=(const Acquire&) = delete;
    ~Acquire() {
        if (data_ != nullptr) {
            pool_.put(data_);  // was served, but destroyed before it went on
        }
    }

    bool await_ready() noexcept {
        data_ = pool_.take();
        return data_ != nullptr;
    }
    void await_suspend(std::coroutine_handle<> awaiting) noexcept {
        coroutine = awaiting;
        pool_.waiters_.push(*this);
    }
    Buffer await_resume() noexcept { return Buffer(pool_, std::exchange(data_, nullptr)); }

private:
    friend class BufferPool;
    BufferPool& pool_;
    std::byte* data_ = nullptr;
};

inline BufferPool::Acquire BufferPool::acquire() noexcept {
    return Acquire(*this);
}
inline std::size_t Buffer::size() const noexcept {
    return pool_ == nullptr ? 0 : pool_->buffer_bytes();
}
inline void Buffer::reset() noexcept {
    if (data_ != nullptr) {
        std::exchange(pool_, nullptr)->put(std::exchange(data_, nullptr));
    }
}

}  // namespace nodesnap
