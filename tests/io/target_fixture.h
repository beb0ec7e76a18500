// What the tests of targets share: filling buffers, and moving large objects over a ring.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "io/target/target.h"
#include "platform/error.h"

namespace nodesnap::test {

inline Bytes bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return Bytes(bytes.begin(), bytes.end());
}

inline std::string text_of(const Bytes& bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Memory at a multiple of 4096, filled with numbers from a seed.
class AlignedBuffer {
public:
    explicit AlignedBuffer(std::size_t size, unsigned seed = 0)
        : size_(size), data_(static_cast<std::byte*>(std::aligned_alloc(4096, (size + 8191) / 4096 * 4096))) {
        std::mt19937_64 random(seed);
        for (std::size_t i = 0; i < size; ++i) {
            data_.get()[i] = static_cast<std::byte>(random());
        }
    }
    std::span<std::byte> span() { return {data_.get(), size_}; }
    std::span<std::byte> part(std::size_t offset, std::size_t length) { return span().subspan(offset, length); }
    bool operator==(const AlignedBuffer& other) const {
        return size_ == other.size_ && std::equal(data_.get(), data_.get() + size_, other.data_.get());
    }

private:
    struct Free {
        void operator()(std::byte* data) const { std::free(data); }
    };
    std::size_t size_;
    std::unique_ptr<std::byte, Free> data_;
};

// Writes the pieces with all of them in flight at once, then finishes.
inline void put_object(Target& target, Ring& ring, const std::string& name, const std::string& staging, std::span<const std::byte> data,
                       std::size_t piece) {
    const auto writer = target.begin(name, staging);
    for (std::size_t at = 0; at < data.size(); at += piece) {
        ring.spawn(writer->write(ring, data.subspan(at, std::min(piece, data.size() - at)), at));
    }
    ring.run();
    ring.wait(writer->finish(ring));
    ring.run();
}

// The exit status of the nodesnap::Error that the call throws; kDone when it throws none.
template <typename Call>
ExitStatus status_of(Call call) {
    try {
        call();
        return ExitStatus::kDone;
    } catch (const Error& error) {
        return error.status();
    }
}

}  // namespace nodesnap::test
