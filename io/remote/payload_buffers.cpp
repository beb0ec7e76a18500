#include "io/remote/payload_buffers.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>
#include <utility>

namespace nodesnap::remote {
namespace {

constexpr std::size_t kAlignment = 4096;

}  // namespace

// Free buffers by their capacities, which are powers of two.
struct PayloadBuffers::Pool {
    std::mutex mutex;
    std::map<std::size_t, std::vector<std::byte*>> free;
    ~Pool() {
        for (const auto& [capacity, buffers] : free) {
            for (std::byte* buffer : buffers) {
                std::free(buffer);
            }
        }
    }
};

PayloadBuffers::PayloadBuffers() : pool_(std::make_shared<Pool>()) {}

PayloadBuffers::Buffer PayloadBuffers::get(std::size_t size) {
    Buffer buffer;
    buffer.capacity_ = std::bit_ceil(std::max(size, kAlignment));
    buffer.size_ = size;
    {
        const std::lock_guard lock(pool_->mutex);
        auto& free = pool_->free[buffer.capacity_];
        if (!free.empty()) {
            buffer.data_ = free.back();
            free.pop_back();
        }
    }
    if (buffer.data_ == nullptr) {
        buffer.data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, buffer.capacity_));
        if (buffer.data_ == nullptr) {
            throw std::bad_alloc();
        }
    }
    buffer.pool_ = pool_;
    return buffer;
}

PayloadBuffers::Buffer::Buffer(Buffer&& other) noexcept
    : pool_(std::move(other.pool_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

PayloadBuffers::Buffer& PayloadBuffers::Buffer::operator=(Buffer&& other) noexcept {
    if (this != &other) {
        Buffer old(std::move(*this));
        pool_ = std::move(other.pool_);
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
        capacity_ = std::exchange(other.capacity_, 0);
    }
    return *this;
}

PayloadBuffers::Buffer::~Buffer() {
    if (data_ == nullptr) {
        return;
    }
    try {
        const std::lock_guard lock(pool_->mutex);
        pool_->free[capacity_].push_back(data_);
    } catch (const std::bad_alloc&) {
        std::free(data_);
    }
}

}  // namespace nodesnap::remote
