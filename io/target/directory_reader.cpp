// A large object of the directory target, open for reading: past the page cache (O_DIRECT) for aligned ranges, through it for the rest.
#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>

#include "io/target/directory_parts.h"
#include "io/transfer.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kAlignment = 4096;

bool aligned(std::span<std::byte> into, std::uint64_t offset) {
    return (reinterpret_cast<std::uintptr_t>(into.data()) | into.size() | offset) % kAlignment == 0;
}

// Reads don't change it (but for a flag that only ever says to go on in the slower way), so that threads may share it.
class DirectoryReader : public ObjectReader {
public:
    DirectoryReader(std::string place, FileDescriptor buffered, FileDescriptor direct, std::uint64_t size)
        : place_(std::move(place)), buffered_(std::move(buffered)), direct_(std::move(direct)), use_direct_(bool(direct_)), size_(size) {}

    std::uint64_t size() const override { return size_; }

    Task<void> read(Ring& ring, std::span<std::byte> into, std::uint64_t offset) override {
        check_range(into.size(), offset);
        const std::int64_t got = co_await read_anyhow(ring, into, offset);
        if (got < 0) {
            throw Error::system("read from", place_, static_cast<int>(-got));
        }
        check_whole(static_cast<std::uint64_t>(got), into.size(), offset);
    }

    void read(std::span<std::byte> into, std::uint64_t offset) override {
        check_range(into.size(), offset);
        check_whole(pread_some(buffered_.get(), into, offset, place_), into.size(), offset);
    }

private:
    Task<std::int64_t> read_anyhow(Ring& ring, std::span<std::byte> into, std::uint64_t offset) {
        if (use_direct_.load(std::memory_order_relaxed) && aligned(into, offset)) {
            const std::int64_t got = co_await read_full(ring, direct_.get(), into, offset, size_);
            if (got != -EINVAL) {
                co_return got;
            }
            use_direct_.store(false, std::memory_order_relaxed);
        }
        co_return co_await read_full(ring, buffered_.get(), into, offset, size_);
    }

    void check_range(std::uint64_t length, std::uint64_t offset) const {
        if (offset > size_ || length > size_ - offset) {
            throw Error::damaged(
                place_, "too short: " + std::to_string(length) + " bytes at " + std::to_string(offset) + " of " + std::to_string(size_));
        }
    }

    void check_whole(std::uint64_t got, std::uint64_t wanted, std::uint64_t offset) const {
        if (got != wanted) {
            throw Error::damaged(place_, "ends at " + std::to_string(offset + got) + ", shorter than when it was opened");
        }
    }

    std::string place_;
    FileDescriptor buffered_;
    FileDescriptor direct_;
    std::atomic<bool> use_direct_;
    std::uint64_t size_;
};

}  // namespace

std::unique_ptr<ObjectReader> open_directory_reader(std::shared_ptr<Folders> folders, std::string name) {
    const int fd = folders->try_open(name, O_RDONLY | O_NONBLOCK);
    if (fd == -ENOENT || fd == -ENOTDIR) {
        return nullptr;
    }
    if (fd == -ELOOP || fd == -ENXIO) {  // a symlink, a socket
        throw Error::damaged(folders->place(name), "not a regular file");
    }
    if (fd < 0) {
        throw folders->error("open", name, -fd);
    }
    FileDescriptor buffered(fd);
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        throw folders->error("read the size of", name, errno);
    }
    if (!S_ISREG(status.st_mode)) {
        throw Error::damaged(folders->place(name), "not a regular file");
    }
    // Without it (not supported, or removed this instant) everything is read through the page cache.
    const int direct = folders->try_open(name, O_RDONLY | O_DIRECT);
    FileDescriptor direct_file(direct >= 0 ? direct : -1);
    struct stat direct_status {};
    if (direct >= 0 && (::fstat(direct, &direct_status) != 0 || direct_status.st_ino != status.st_ino)) {
        direct_file.reset();
    }
    return std::make_unique<DirectoryReader>(folders->place(name), std::move(buffered), std::move(direct_file),
                                             static_cast<std::uint64_t>(status.st_size));
}

}  // namespace nodesnap
