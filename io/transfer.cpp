#include "io/transfer.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "platform/interrupt.h"

namespace nodesnap {
namespace {

// Where a transfer goes on after `done` bytes: with O_DIRECT only a multiple of this does, so the block that was cut is done again.
constexpr std::uint64_t kBlock = 4096;

std::uint64_t resume_point(std::uint64_t offset, std::uint64_t done) {
    const std::uint64_t position = offset + done;
    const std::uint64_t block = position - position % kBlock;
    return offset % kBlock != 0 || block <= offset ? done : block - offset;
}

}  // namespace

Task<std::int64_t> read_full(Ring& ring, int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size) {
    std::uint64_t done = 0;
    while (done < into.size() && offset + done < file_size) {
        std::uint64_t from = done;
        std::int64_t result = co_await ring.read(fd, into.subspan(from), offset + from);
        if (result == -EINVAL && done % kBlock != 0) {
            from = resume_point(offset, done);
            result = co_await ring.read(fd, into.subspan(from), offset + from);
        }
        if (result < 0) {
            co_return result;
        }
        const std::uint64_t reached = from + static_cast<std::uint64_t>(result);
        if (reached <= done) {
            break;  // nothing more: the end of the file
        }
        done = reached;
    }
    co_return static_cast<std::int64_t>(done);
}

Task<std::int64_t> write_full(Ring& ring, int fd, std::span<const std::byte> from, std::uint64_t offset) {
    std::uint64_t done = 0;
    while (done < from.size()) {
        std::uint64_t start = done;
        std::int64_t result = co_await ring.write(fd, from.subspan(start), offset + start);
        if (result == -EINVAL && done % kBlock != 0) {
            start = resume_point(offset, done);
            result = co_await ring.write(fd, from.subspan(start), offset + start);
        }
        if (result < 0) {
            co_return result;
        }
        const std::uint64_t reached = start + static_cast<std::uint64_t>(result);
        if (reached <= done) {
            co_return -EIO;
        }
        done = reached;
    }
    co_return static_cast<std::int64_t>(done);
}

Task<void> pace(Ring& ring, Throttle& throttle, std::uint64_t bytes) {
    constexpr std::chrono::nanoseconds kSlice = std::chrono::seconds(1);
    for (auto left = throttle.reserve(bytes); left.count() > 0; left -= kSlice) {
        throw_if_interrupted();
        co_await ring.sleep(std::min(left, kSlice));
    }
}

}  // namespace nodesnap
