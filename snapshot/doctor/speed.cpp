#include "snapshot/doctor/speed.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <span>

#include "io/ring.h"
#include "io/task.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/interrupt.h"
#include "platform/random.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
constexpr std::uint64_t kPage = 4096;
constexpr unsigned kPiecesInFlight = 16;
constexpr unsigned kPagesInFlight = 32;

struct Aligned {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kPage}); }
};
using Memory = std::unique_ptr<std::byte, Aligned>;

Memory aligned_memory(std::size_t bytes) {
    return Memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kPage})));
}

// One operation at a time for each lane, until the time is over or none is left.
struct Measurement {
    Ring ring{{.entries = 64}};
    std::int64_t begun_ns = 0;
    std::int64_t deadline_ns = 0;
    std::uint64_t bytes = 0;
    std::uint64_t operations = 0;

    // `operation` gives the awaitable's result for one lane's memory: bytes, 0 for no more, or a negative errno.
    using Operation = std::function<Task<std::int64_t>(std::span<std::byte> memory)>;

    Task<void> lane(Operation operation, std::span<std::byte> memory, std::string path) {
        do {
            interrupt::throw_if_interrupted();
            const std::int64_t got = co_await operation(memory);
            if (got < 0) {
                throw Error::system("measure", path, static_cast<int>(-got));
            }
            if (got == 0) {
                co_return;
            }
            bytes += static_cast<std::uint64_t>(got);
            ++operations;
        } while (monotonic_ns() < deadline_ns);
    }

    void run(unsigned lanes, std::size_t piece, std::chrono::nanoseconds time, const Operation& operation, const std::string& path) {
        const Memory memory = aligned_memory(lanes * piece);
        std::memset(memory.get(), 0x5a, lanes * piece);
        begun_ns = monotonic_ns();
        deadline_ns = begun_ns + time.count();
        for (unsigned number = 0; number < lanes; ++number) {
            ring.spawn(lane(operation, {memory.get() + number * piece, piece}, path));
        }
        ring.run();
    }
    double seconds() const { return static_cast<double>(std::max<std::int64_t>(1, monotonic_ns() - begun_ns)) / 1e9; }
};

// A file that is read, opened past the page cache where that can be.
struct OpenFile {
    FileDescriptor fd;
    std::uint64_t bytes = 0;  // whole pages
};

FileDescriptor open_uncached(const std::string& path, int flags, mode_t mode = 0) {
    try {
        return open_path(path, flags | O_DIRECT, mode);
    } catch (const Error& error) {
        if (error.error_number() != EINVAL) {
            throw;
        }
        return open_path(path, flags, mode);
    }
}

std::vector<OpenFile> open_files(const std::string& node_directory, const std::vector<LargestFile>& files) {
    std::vector<OpenFile> opened;
    for (const LargestFile& file : files) {
        const std::uint64_t bytes = file.bytes / kPage * kPage;
        if (bytes == 0) {
            continue;
        }
        try {
            FileDescriptor fd = open_uncached(node_directory + "/" + file.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
            clear_status_flag(fd.get(), O_NONBLOCK);
            ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
            opened.push_back({std::move(fd), bytes});
        } catch (const Error&) {
            continue;  // gone, or not ours to read
        }
    }
    return opened;
}

}  // namespace

MeasuredSpeed measure_reading(const std::string& node_directory, const std::vector<LargestFile>& files, std::chrono::nanoseconds time) {
    MeasuredSpeed speed;
    const std::vector<OpenFile> opened = open_files(node_directory, files);
    if (opened.empty()) {
        return speed;
    }
    std::size_t file = 0;
    std::uint64_t offset = 0;
    Measurement pieces;
    pieces.run(
        kPiecesInFlight, kPiece, time,
        [&](std::span<std::byte> memory) -> Task<std::int64_t> {
            if (file < opened.size() && offset >= opened[file].bytes) {
                ++file;
                offset = 0;
            }
            if (file == opened.size()) {
                co_return 0;
            }
            const std::uint64_t at = offset;
            offset += kPiece;
            co_return co_await pieces.ring.read(opened[file].fd.get(), memory, at);
        },
        node_directory);
    speed.bytes_per_second = static_cast<double>(pieces.bytes) / pieces.seconds();
    std::mt19937_64 random(random_u64());
    Measurement pages;
    pages.run(
        kPagesInFlight, kPage, time / 2,
        [&](std::span<std::byte> memory) -> Task<std::int64_t> {
            const OpenFile& chosen = opened[random() % opened.size()];
            co_return co_await pages.ring.read(chosen.fd.get(), memory, random() % (chosen.bytes / kPage) * kPage);
        },
        node_directory);
    speed.random_reads_per_second = static_cast<double>(pages.operations) / pages.seconds();
    return speed;
}

MeasuredSpeed measure_writing(const std::string& directory, std::chrono::nanoseconds time) {
    constexpr std::uint64_t kShare = 100;
    const std::uint64_t limit = std::max(kPiece, file_system_of(directory).free_bytes / kShare);
    const FileDescriptor file = open_uncached(directory, O_TMPFILE | O_RDWR, 0600);
    std::uint64_t offset = 0;
    Measurement writes;
    writes.run(
        kPiecesInFlight, kPiece, time,
        [&](std::span<std::byte> memory) -> Task<std::int64_t> {
            if (offset >= limit) {
                co_return 0;
            }
            const std::uint64_t at = offset;
            offset += kPiece;
            co_return co_await writes.ring.write(file.get(), memory, at);
        },
        directory);
    sync_file(file.get(), directory);
    MeasuredSpeed speed;
    speed.bytes_per_second = static_cast<double>(writes.bytes) / writes.seconds();
    return speed;
}

}  // namespace nodesnap
