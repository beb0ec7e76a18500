// The ring: reads per second at several depths from the page cache (its own cost, without a disk's), large O_DIRECT reads from the disk
// under $TMPDIR, small files opened, looked at, read and closed, and what a coroutine costs.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "io/buffer_pool.h"
#include "io/ring.h"
#include "platform/file_descriptor.h"

namespace nodesnap {
namespace {

std::string scratch(const std::string& name) {
    return (std::filesystem::temp_directory_path() / ("nodesnap-bench-" + name)).string();
}

// A file of `bytes` that is gone when its descriptor is.
FileDescriptor make_file(std::uint64_t bytes, int flags) {
    const std::string path = scratch("file-" + std::to_string(::getpid()));
    FileDescriptor writer(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
    const std::vector<char> block(1 << 20, 'x');
    for (std::uint64_t at = 0; at < bytes; at += block.size()) {
        if (::pwrite(writer.get(), block.data(), block.size(), static_cast<off_t>(at)) < 0) {
            break;
        }
    }
    ::fsync(writer.get());
    FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags));
    ::unlink(path.c_str());
    return fd;
}

struct Work {
    int fd = -1;
    std::uint64_t file_bytes = 0;
    std::uint64_t next = 0;
    std::uint64_t end = 0;
    bool failed = false;
};

Task<void> read_lane(Ring& ring, Work& work, std::span<std::byte> into) {
    while (work.next < work.end && !work.failed) {
        const std::uint64_t offset = work.next;
        work.next += into.size();
        work.failed = co_await ring.read(work.fd, into, offset % work.file_bytes) != static_cast<std::int64_t>(into.size());
    }
}

void read_at_depth(benchmark::State& state, int flags, std::size_t bytes, std::uint64_t file_bytes, bool blocking) {
    const auto depth = static_cast<std::size_t>(state.range(0));
    const FileDescriptor fd = make_file(file_bytes, flags);
    Ring ring({.entries = 256, .force_blocking = blocking});
    BufferPool pool(ring, {.count = depth, .buffer_bytes = bytes});
    std::vector<Buffer> buffers;
    for (std::size_t i = 0; i < depth; ++i) {
        buffers.push_back(pool.try_acquire());
    }
    Work work{.fd = fd.get(), .file_bytes = file_bytes};
    for (auto unused : state) {
        work.end = work.next + file_bytes;
        for (const Buffer& buffer : buffers) {
            ring.spawn(read_lane(ring, work, buffer.span()));
        }
        ring.run();
    }
    if (work.failed) {
        state.SkipWithError("a read failed");
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(work.next));
    state.SetItemsProcessed(static_cast<std::int64_t>(work.next / bytes));
}

void ring_cached_4k(benchmark::State& state) {
    read_at_depth(state, 0, 4096, 16 << 20, false);
}
BENCHMARK(ring_cached_4k)->Arg(1)->Arg(8)->Arg(64)->UseRealTime();

void ring_cached_4k_plain_calls(benchmark::State& state) {
    read_at_depth(state, 0, 4096, 16 << 20, true);
}
BENCHMARK(ring_cached_4k_plain_calls)->Arg(1)->UseRealTime();

void ring_direct_4k(benchmark::State& state) {
    read_at_depth(state, O_DIRECT, 4096, 64 << 20, false);
}
BENCHMARK(ring_direct_4k)->Arg(1)->Arg(8)->Arg(32)->Arg(64)->Arg(128)->UseRealTime();

void ring_direct_1m(benchmark::State& state) {
    read_at_depth(state, O_DIRECT, 1 << 20, 256 << 20, false);
}
BENCHMARK(ring_direct_1m)->Arg(1)->Arg(2)->Arg(4)->Arg(8)->Arg(16)->UseRealTime();

struct SmallFiles {
    explicit SmallFiles(int number) : directory(scratch("files-" + std::to_string(::getpid()))) {
        std::filesystem::create_directories(directory);
        for (int i = 0; i < number; ++i) {
            names.push_back(directory + "/" + std::to_string(i));
            const FileDescriptor fd(::open(names.back().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
            const std::vector<char> content(3000, 'x');
            if (::write(fd.get(), content.data(), content.size()) != 3000) {
                std::abort();
            }
        }
    }
    SmallFiles(const SmallFiles&) = delete;
    SmallFiles& operator=(const SmallFiles&) = delete;
    ~SmallFiles() { std::filesystem::remove_all(directory); }
    std::string directory;
    std::vector<std::string> names;
};

Task<void> file_lane(Ring& ring, const std::vector<std::string>& names, std::size_t& next, std::span<std::byte> into, bool* failed) {
    while (next < names.size()) {
        const std::string& name = names[next++];
        const auto fd = static_cast<int>(co_await ring.open_at(AT_FDCWD, name.c_str(), O_RDONLY));
        struct statx found {};
        *failed |= co_await ring.stat_at(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &found) != 0;
        *failed |= co_await ring.read(fd, into, 0) != 3000;
        *failed |= co_await ring.close(fd) != 0;
    }
}

void small_files(benchmark::State& state, bool blocking) {
    const SmallFiles files(4000);
    const auto depth = static_cast<std::size_t>(state.range(0));
    Ring ring({.entries = 256, .force_blocking = blocking});
    BufferPool pool(ring, {.count = depth, .buffer_bytes = 4096});
    std::vector<Buffer> buffers;
    for (std::size_t i = 0; i < depth; ++i) {
        buffers.push_back(pool.try_acquire());
    }
    bool failed = false;
    for (auto unused : state) {
        std::size_t next = 0;
        for (const Buffer& buffer : buffers) {
            ring.spawn(file_lane(ring, files.names, next, buffer.span(), &failed));
        }
        ring.run();
    }
    if (failed) {
        state.SkipWithError("an operation failed");
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(files.names.size()));
}

void ring_small_files_cached(benchmark::State& state) {
    small_files(state, false);
}
BENCHMARK(ring_small_files_cached)->Arg(8)->Arg(32)->Arg(64)->UseRealTime();

void ring_small_files_cached_plain_calls(benchmark::State& state) {
    small_files(state, true);
}
BENCHMARK(ring_small_files_cached_plain_calls)->Arg(1)->UseRealTime();

Task<std::int64_t> give(std::int64_t value) {
    co_return value;
}
Task<void> add_up(std::int64_t count, std::int64_t* sum) {
    for (std::int64_t i = 0; i < count; ++i) {
        *sum += co_await give(i);
    }
}

void coroutine_call(benchmark::State& state) {
    Ring ring({.force_blocking = true});
    std::int64_t sum = 0;
    for (auto unused : state) {
        ring.wait(add_up(1000, &sum));
        benchmark::DoNotOptimize(sum);
    }
    state.SetItemsProcessed(state.iterations() * 1000);
}
BENCHMARK(coroutine_call);

}  // namespace
}  // namespace nodesnap
