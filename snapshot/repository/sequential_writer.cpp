#include "snapshot/repository/sequential_writer.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "io/target/paced_write.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {

Ring::Options blocking_ring() {
    Ring::Options options;
    options.entries = 8;
    options.force_blocking = true;
    return options;
}

void SequentialWriter::Free::operator()(std::byte* bytes) const {
    ::operator delete (bytes, std::align_val_t{kPackAlignment});
}

SequentialWriter::SequentialWriter(Ring& ring, ObjectWriter& object, Throttle& throttle)
    : ring_(ring),
      object_(object),
      throttle_(throttle),
      buffer_(static_cast<std::byte*>(::operator new (kBufferBytes, std::align_val_t{kPackAlignment}))) {}

void SequentialWriter::append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const std::size_t part = std::min(bytes.size(), kBufferBytes - filled_);
        std::memcpy(buffer_.get() + filled_, bytes.data(), part);
        filled_ += part;
        bytes = bytes.subspan(part);
        if (filled_ == kBufferBytes) {
            flush();
        }
    }
}

void SequentialWriter::pad_to(std::uint64_t offset) {
    static constexpr std::byte kZeros[4096]{};
    while (this->offset() < offset) {
        append(std::span(kZeros).first(std::min<std::uint64_t>(sizeof(kZeros), offset - this->offset())));
    }
}

void SequentialWriter::finish() {
    flush();
    ring_.wait(object_.finish(ring_));
}

void SequentialWriter::flush() {
    if (filled_ != 0) {
        ring_.wait(write_paced(ring_, object_, std::span<const std::byte>(buffer_.get(), filled_), written_, throttle_));
        written_ += filled_;
        filled_ = 0;
    }
}

}  // namespace nodesnap
