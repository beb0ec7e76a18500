#include "io/buffer_pool.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Maps `bytes` at a multiple of the huge page size.
std::byte* map_region(std::size_t bytes) {
    const std::size_t wide = bytes + kHugePage;
    void* mapped = ::mmap(nullptr, wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        throw Error::system("map", "I/O buffers", errno);
    }
    auto* begin = static_cast<std::byte*>(mapped);
    const std::size_t misplaced = reinterpret_cast<std::uintptr_t>(begin) % kHugePage;
    const std::size_t before = misplaced == 0 ? 0 : kHugePage - misplaced;
    if (before != 0) {
        ::munmap(begin, before);
    }
    ::munmap(begin + before + bytes, wide - before - bytes);
    ::madvise(begin + before, bytes, MADV_HUGEPAGE);  // a wish
    return begin + before;
}

}  // namespace

BufferPool::BufferPool(Ring& ring, const Options& options) : ring_(ring), options_(options) {
    constexpr std::size_t kPage = 4096;
    if (options.count == 0 || options.buffer_bytes == 0 || options.buffer_bytes % kPage != 0) {
        throw Error::failed("an I/O buffer pool of " + std::to_string(options.count) + " x " + std::to_string(options.buffer_bytes) +
                            " bytes can't be made");
    }
    region_bytes_ = options.count * options.buffer_bytes;
    region_ = map_region(region_bytes_);
    ring_.register_region({region_, region_bytes_});
    for (std::size_t i = options.count; i-- > 0;) {
        put(region_ + i * options.buffer_bytes);
    }
}

BufferPool::~BufferPool() {
    if (free_count_ != options_.count) {
        ring_.abandon();
    }
    ring_.register_region({});
    ::munmap(region_, region_bytes_);
}

std::byte* BufferPool::take() noexcept {
    std::byte* data = free_;
    if (data != nullptr) {
        std::memcpy(&free_, data, sizeof free_);
        --free_count_;
    }
    return data;
}

Buffer BufferPool::try_acquire() noexcept {
    std::byte* data = take();
    return data == nullptr ? Buffer() : Buffer(*this, data);
}

void BufferPool::put(std::byte* data) noexcept {
    if (!waiters_.empty()) {
        auto& first = static_cast<Acquire&>(waiters_.pop());
        first.data_ = data;
        ring_.schedule(first);
        return;
    }
    std::memcpy(data, &free_, sizeof free_);
    free_ = data;
    ++free_count_;
}

}  // namespace nodesnap
