// PayloadBuffers: memory for frames' payloads, at multiples of 4096 (so that it can go to the disk as it is), kept for the next one: fresh
// memory of a megabyte costs as much as what is done with it. Any thread. What is kept is bounded by what was out at once.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace nodesnap::remote {

class PayloadBuffers {
    struct Pool;

public:
    // Goes back when it is destroyed, also after the PayloadBuffers. Move-only.
    class Buffer {
    public:
        Buffer() noexcept = default;
        Buffer(Buffer&& other) noexcept;
        Buffer& operator=(Buffer&& other) noexcept;
        Buffer(const Buffer&) = delete;
        Buffer& operator=(const Buffer&) = delete;
        ~Buffer();
        std::span<std::byte> span() const { return {data_, size_}; }

    private:
        friend class PayloadBuffers;
        std::shared_ptr<Pool> pool_;
        std::byte* data_ = nullptr;
        std::size_t size_ = 0;
        std::size_t capacity_ = 0;
    };

    PayloadBuffers();
    Buffer get(std::size_t size);

private:
    std::shared_ptr<Pool> pool_;
};

}  // namespace nodesnap::remote
