#include "io/ring.h"

#include <sys/stat.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "ring_fixture.h"

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;

INSTANTIATE_TEST_SUITE_P(Modes, RingTest, testing::Bool(), ring_mode);

TEST_P(RingTest, SaysWhetherItUsesIoUringAndWhyNot) {
    const Ring ring(options());
    EXPECT_EQ(ring.uses_io_uring(), !blocking());
    EXPECT_EQ(ring.fallback_reason().empty(), !blocking());
}

TEST_P(RingTest, WritesAndReadsBack) {
    Ring ring(options());
    const FileDescriptor fd = make_file("file");
    std::array<std::byte, 16> into{};
    EXPECT_EQ(result_of(ring, ring.write(fd.get(), bytes_of("hello"), 3)), 5);
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), into, 0)), 8);
    EXPECT_EQ(text_of(std::span(into).first(8)), std::string("\0\0\0hello", 8));
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), into, 8)), 0);
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), {}, 0)), 0);
}

TEST_P(RingTest, GivesTheKernelsErrorNumbers) {
    Ring ring(options());
    std::array<std::byte, 16> into{};
    const FileDescriptor read_only = make_file("file", "x", O_RDONLY);
    EXPECT_EQ(result_of(ring, ring.read(-1, into, 0)), -EBADF);
    EXPECT_EQ(result_of(ring, ring.write(read_only.get(), into, 0)), -EBADF);
    EXPECT_EQ(result_of(ring, ring.close(-1)), -EBADF);
    EXPECT_EQ(result_of(ring, ring.open_at(AT_FDCWD, path("none").c_str(), O_RDONLY)), -ENOENT);
    EXPECT_EQ(result_of(ring, ring.allocate(-1, 0, 0, 1)), -EBADF);
    EXPECT_EQ(result_of(ring, ring.fsync(-1, true)), -EBADF);
    EXPECT_EQ(result_of(ring, ring.advise(-1, 0, 0, POSIX_FADV_DONTNEED)), -EBADF);
}

TEST_P(RingTest, OpensStatsAndClosesByName) {
    Ring ring(options());
    make_file("file", "12345");
    const std::string name = path("file");
    const auto fd = static_cast<int>(result_of(ring, ring.open_at(AT_FDCWD, name.c_str(), O_RDONLY)));
    ASSERT_GE(fd, 0);
    EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    struct statx found {};
    EXPECT_EQ(result_of(ring, ring.stat_at(AT_FDCWD, name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &found)), 0);
    EXPECT_EQ(found.stx_size, 5U);
    found = {};
    EXPECT_EQ(result_of(ring, ring.stat_at(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &found)), 0);
    EXPECT_EQ(found.stx_size, 5U);
    EXPECT_EQ(result_of(ring, ring.close(fd)), 0);
    EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
    const std::string created = path("created");
    const auto made = static_cast<int>(result_of(ring, ring.open_at(AT_FDCWD, created.c_str(), O_CREAT | O_WRONLY | O_EXCL, 0640)));
    ASSERT_GE(made, 0);
    EXPECT_EQ(result_of(ring, ring.close(made)), 0);
    EXPECT_EQ(result_of(ring, ring.stat_at(AT_FDCWD, created.c_str(), 0, STATX_BASIC_STATS, &found)), 0);
    EXPECT_EQ(found.stx_mode & 0777U, 0640U);
}

TEST_P(RingTest, AllocatesSyncsAndAdvises) {
    Ring ring(options());
    const FileDescriptor fd = make_file("file", "12345");
    EXPECT_EQ(result_of(ring, ring.allocate(fd.get(), 0, 0, 65536)), 0);
    struct stat found {};
    ASSERT_EQ(::fstat(fd.get(), &found), 0);
    EXPECT_EQ(found.st_size, 65536);
    EXPECT_EQ(result_of(ring, ring.sync_range(fd.get(), 0, 65536)), 0);
    EXPECT_EQ(result_of(ring, ring.sync_range(fd.get(), 0, std::uint64_t{1} << 40)), 0);
    EXPECT_EQ(result_of(ring, ring.fsync(fd.get(), true)), 0);
    EXPECT_EQ(result_of(ring, ring.fsync(fd.get(), false)), 0);
    EXPECT_EQ(result_of(ring, ring.advise(fd.get(), 0, 0, POSIX_FADV_DONTNEED)), 0);
}

Task<void> read_into(Ring& ring, int fd, std::string* result) {
    std::array<std::byte, 64> into{};
    const std::int64_t length = co_await ring.read(fd, into, 0);
    *result = length < 0 ? std::to_string(length) : text_of(std::span(into).first(static_cast<std::size_t>(length)));
}

TEST_P(RingTest, ReadsAndWritesPipesWhateverTheOffset) {
    Ring ring(options());
    const Pipe pipe;
    EXPECT_EQ(result_of(ring, ring.write(pipe.writer.get(), bytes_of("through"), 4096)), 7);
    std::string got;
    ring.wait(read_into(ring, pipe.reader.get(), &got));
    EXPECT_EQ(got, "through");
}

TEST_P(RingTest, WaitsWhereADescriptorThatDoesNotBlockHasNothingYet) {
    Ring ring(options());
    const Pipe pipe(O_NONBLOCK);
    std::string got;
    std::thread writer([&] { pipe.write("late"); });
    ring.wait(read_into(ring, pipe.reader.get(), &got));
    writer.join();
    EXPECT_EQ(got, "late");
}

// With plain calls a read that waits blocks the thread.
class RingInFlightTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, RingInFlightTest, testing::Values(false), ring_mode);

TEST_P(RingInFlightTest, OtherTasksGoOnWhileAReadWaits) {
    Ring ring(options());
    const Pipe pipe;
    std::string got;
    ring.spawn(read_into(ring, pipe.reader.get(), &got));
    EXPECT_EQ(result_of(ring, ring.sleep(1ms)), 0);
    EXPECT_EQ(ring.running(), 1U);
    EXPECT_EQ(got, "");
    EXPECT_EQ(result_of(ring, ring.write(pipe.writer.get(), bytes_of("now"), 0)), 3);
    ring.run();
    EXPECT_EQ(got, "now");
    EXPECT_TRUE(ring.idle());
}

TEST_P(RingInFlightTest, ADescriptorThatDoesNotBlockIsWaitedForToo) {
    Ring ring(options());
    const Pipe pipe(O_NONBLOCK);
    std::string got;
    ring.spawn(read_into(ring, pipe.reader.get(), &got));
    EXPECT_EQ(result_of(ring, ring.sleep(1ms)), 0);  // the read has been tried by then
    pipe.write("late");
    ring.run();
    EXPECT_EQ(got, "late");
}

Task<void> sleep_and_note(Ring& ring, std::chrono::nanoseconds time, int id, std::vector<int>* order) {
    co_await ring.sleep(time);
    order->push_back(id);
}

TEST_P(RingInFlightTest, NoMoreThanItsEntriesAreInFlight) {
    Ring ring(options(2));
    std::vector<int> order;
    ring.spawn(sleep_and_note(ring, 20ms, 1, &order));
    ring.spawn(sleep_and_note(ring, 40ms, 2, &order));
    ring.spawn(sleep_and_note(ring, 0ms, 3, &order));  // must wait for the first
    ring.run();
    ASSERT_EQ(order.size(), 3U);
    EXPECT_EQ(order[0], 1);
}

TEST_P(RingTest, SleepsAtLeastAsLongAsAsked) {
    Ring ring(options());
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(result_of(ring, ring.sleep(20ms)), 0);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
    EXPECT_EQ(result_of(ring, ring.sleep(-5ms)), 0);
}

Task<void> copy_block(Ring& ring, int from, int into, std::uint64_t block, unsigned* done) {
    std::array<std::byte, 512> buffer{};
    if (co_await ring.read(from, buffer, block * buffer.size()) != 512) {
        throw std::runtime_error("short read");
    }
    if (co_await ring.write(into, buffer, block * buffer.size()) != 512) {
        throw std::runtime_error("short write");
    }
    ++*done;
}

TEST_P(RingTest, ManyMoreTasksThanEntriesAllFinish) {
    constexpr unsigned kBlocks = 3000;
    std::string content(std::size_t{512} * kBlocks, '\0');
    for (std::size_t i = 0; i < content.size(); ++i) {
        content[i] = static_cast<char>(i * 7919 >> 5);
    }
    const FileDescriptor from = make_file("from", content);
    const FileDescriptor into = make_file("into");
    Ring ring(options(4));
    unsigned done = 0;
    for (unsigned i = 0; i < kBlocks; ++i) {
        ring.spawn(copy_block(ring, from.get(), into.get(), i, &done));
    }
    ring.run();
    EXPECT_EQ(done, kBlocks);
    std::string copy(content.size(), '\0');
    ASSERT_EQ(::pread(into.get(), copy.data(), copy.size(), 0), static_cast<ssize_t>(copy.size()));
    EXPECT_TRUE(copy == content);
}

TEST_P(RingTest, RegisteredBuffersReadAndWriteTheSame) {
    Ring ring(options());
    alignas(4096) static std::array<std::byte, 16384> region;
    ring.register_region(region);
    EXPECT_EQ(ring.region_registered(), !blocking());
    const FileDescriptor fd = make_file("file", std::string(9000, 'a') + "end");
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), std::span(region).subspan(100, 9100), 0)), 9003);
    EXPECT_EQ(text_of(std::span(region).subspan(9100, 3)), "end");
    EXPECT_EQ(result_of(ring, ring.write(fd.get(), std::span(region).subspan(9100, 3), 0)), 3);
    // Outside the region: must not be taken for a registered buffer.
    std::array<std::byte, 4> other{};
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), other, 0)), 4);
    EXPECT_EQ(text_of(other), "enda");
    // Partly inside it.
    ring.register_region(std::span(region).first(8192));
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), std::span(region).subspan(8000, 400), 8700)), 303);
    EXPECT_EQ(text_of(std::span(region).subspan(8300, 3)), "end");
    ring.register_region({});
    EXPECT_FALSE(ring.region_registered());
    EXPECT_EQ(result_of(ring, ring.read(fd.get(), std::span(region).first(4), 0)), 4);
}

Task<std::int64_t> nothing(std::int64_t value) {
    co_return value;
}

Task<void> await_many(std::int64_t count, std::int64_t* sum) {
    for (std::int64_t i = 0; i < count; ++i) {
        *sum += co_await nothing(1);
    }
}

TEST_P(RingTest, TasksThatNeverSuspendDoNotUseUpTheStack) {
    Ring ring(options());
    std::int64_t sum = 0;
    ring.wait(await_many(1'000'000, &sum));
    EXPECT_EQ(sum, 1'000'000);
}

Task<void> spawn_chain(Ring& ring, unsigned left, unsigned* done) {
    if (left > 0) {
        ring.spawn(spawn_chain(ring, left - 1, done));
    }
    ++*done;
    co_return;
}

TEST_P(RingTest, SpawnsWithinSpawnsDoNotUseUpTheStack) {
    Ring ring(options());
    unsigned done = 0;
    ring.spawn(spawn_chain(ring, 300'000, &done));
    ring.run();
    EXPECT_EQ(done, 300'001U);
}

}  // namespace
}  // namespace nodesnap::test
