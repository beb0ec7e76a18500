// SequentialWriter: writes an object from its beginning to its end, through one buffer that starts at multiples of 4096.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "io/ring.h"
#include "io/target/target.h"
#include "io/throttle.h"

namespace nodesnap {

Ring::Options blocking_ring();  // for one that writes alone, and waits for each write

class SequentialWriter {
public:
    SequentialWriter(Ring& ring, ObjectWriter& object, Throttle& throttle);

    std::uint64_t offset() const { return written_ + filled_; }
    void append(std::span<const std::byte> bytes);
    void pad_to(std::uint64_t offset);  // zeros
    // What is left in the buffer, then the object's own finish(): durable, then visible.
    void finish();

private:
    static constexpr std::size_t kBufferBytes = 1U << 20;
    struct Free {
        void operator()(std::byte* bytes) const;
    };

    void flush();

    Ring& ring_;
    ObjectWriter& object_;
    Throttle& throttle_;
    std::unique_ptr<std::byte[], Free> buffer_;
    std::size_t filled_ = 0;
    std::uint64_t written_ = 0;
};

}  // namespace nodesnap
