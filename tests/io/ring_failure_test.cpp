// What the ring does when tasks fail, wait for ever, or are given up.
#include <chrono>
#include <functional>
#include <stdexcept>

#include "io/semaphore.h"
#include "ring_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;

class RingFailureTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, RingFailureTest, testing::Bool(), ring_mode);

// With plain calls nothing is ever in flight.
class RingAbandonTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, RingAbandonTest, testing::Values(false), ring_mode);

Task<void> fail_after(Ring& ring, std::chrono::nanoseconds time, std::string what) {
    co_await ring.sleep(time);
    throw std::runtime_error(what);
}

Task<void> fail_at_once(std::string what) {
    throw std::runtime_error(what);
    co_return;
}

// Counts its frame's life.
struct Witness {
    explicit Witness(int* count) : alive(count) { ++*alive; }
    Witness(const Witness&) = delete;
    Witness& operator=(const Witness&) = delete;
    ~Witness() { --*alive; }
    int* alive;
};

Task<void> wait_for_ever(AsyncEvent& event, int* alive) {
    const Witness witness(alive);
    co_await event.wait();
}

Task<void> sleep_while_alive(Ring& ring, std::chrono::nanoseconds time, int* alive) {
    const Witness witness(alive);
    co_await ring.sleep(time);
}

Task<void> read_while_alive(Ring& ring, int fd, int* alive) {
    const Witness witness(alive);
    std::array<std::byte, 16> into{};
    co_await ring.read(fd, into, 0);
}

std::string thrown_by(const std::function<void()>& call) {
    try {
        call();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "nothing";
}

TEST_P(RingFailureTest, TheFirstExceptionEndsAllTasksAndIsThrown) {
    Ring ring(options());
    AsyncEvent never(ring);
    int alive = 0;
    ring.spawn(wait_for_ever(never, &alive));
    ring.spawn(fail_after(ring, 1ms, "first"));
    ring.spawn(wait_for_ever(never, &alive));
    EXPECT_EQ(thrown_by([&] { ring.run(); }), "first");
    EXPECT_EQ(alive, 0);
    EXPECT_TRUE(ring.idle());
    // It can be used again.
    EXPECT_EQ(result_of(ring, ring.sleep(1us)), 0);
}

TEST_P(RingFailureTest, AFailureBeforeTheFirstSuspensionIsNotLost) {
    Ring ring(options());
    ring.spawn(fail_at_once("at once"));
    ring.spawn(fail_at_once("later"));
    EXPECT_EQ(ring.running(), 0U);
    EXPECT_FALSE(ring.idle());
    EXPECT_EQ(thrown_by([&] { ring.run(); }), "at once");
    EXPECT_EQ(thrown_by([&] { ring.run(); }), "nothing");
}

TEST_P(RingFailureTest, WaitThrowsItsTasksExceptionAndLeavesTheOthersAlone) {
    Ring ring(options());
    AsyncEvent event(ring);
    int alive = 0;
    ring.spawn(wait_for_ever(event, &alive));
    EXPECT_EQ(thrown_by([&] { ring.wait(fail_at_once("mine")); }), "mine");
    EXPECT_EQ(alive, 1);
    event.set();
    ring.run();
    EXPECT_EQ(alive, 0);
}

Task<int> answer(Ring& ring) {
    co_await ring.sleep(1us);
    co_return 42;
}

TEST_P(RingFailureTest, WaitGivesTheValue) {
    Ring ring(options());
    EXPECT_EQ(ring.wait(answer(ring)), 42);
}

TEST_P(RingFailureTest, WaitThrowsWhatAnotherTaskFailedWith) {
    Ring ring(options());
    AsyncEvent never(ring);
    int alive = 0;
    ring.spawn(fail_after(ring, 1ms, "other"));
    EXPECT_EQ(thrown_by([&] { ring.wait(wait_for_ever(never, &alive)); }), "other");
    EXPECT_EQ(alive, 0);
}

TEST_P(RingFailureTest, TasksThatNothingCanWakeAreAnErrorNotAHang) {
    Ring ring(options());
    AsyncEvent never(ring);
    int alive = 0;
    ring.spawn(wait_for_ever(never, &alive));
    EXPECT_THROW(ring.run(), std::logic_error);
    EXPECT_EQ(alive, 0);
    EXPECT_THROW(ring.wait(wait_for_ever(never, &alive)), std::logic_error);
    EXPECT_EQ(alive, 0);
    ring.step();  // nothing to do
    ring.spawn(wait_for_ever(never, &alive));
    EXPECT_THROW(
        while (!ring.idle()) { ring.step(); }, std::logic_error);
    EXPECT_EQ(alive, 0);
}

Task<void> wait_inside(Ring& ring) {
    ring.wait(fail_at_once("inner"));
    co_return;
}

TEST_P(RingFailureTest, WaitingInsideACoroutineIsRefused) {
    Ring ring(options());
    EXPECT_THROW(ring.wait(wait_inside(ring)), std::logic_error);
}

TEST_P(RingAbandonTest, TheDestructorEndsWhatSleepsOrWaitsForAPipe) {
    const Pipe pipe;
    int alive = 0;
    {
        Ring ring(options(2));
        for (int i = 0; i < 5; ++i) {
            ring.spawn(sleep_while_alive(ring, 24h, &alive));
            ring.spawn(read_while_alive(ring, pipe.reader.get(), &alive));
        }
        EXPECT_EQ(alive, 10);
        EXPECT_EQ(ring.running(), 10U);
    }
    EXPECT_EQ(alive, 0);
    pipe.write("x");
    std::array<char, 4> into{};
    EXPECT_EQ(::read(pipe.reader.get(), into.data(), into.size()), 1);  // nobody took it
}

Task<void> open_and_lose(Ring& ring, const char* name) {
    co_await ring.open_at(AT_FDCWD, name, O_RDONLY);
}
Task<void> open_and_close(Ring& ring, const char* name) {
    const std::int64_t fd = co_await ring.open_at(AT_FDCWD, name, O_RDONLY);
    co_await ring.close(static_cast<int>(fd));
}
Task<void> just_close(Ring& ring, int fd) {
    co_await ring.close(fd);
}

TEST_P(RingAbandonTest, FilesOpenedForOrGivenToAbandonedTasksAreClosed) {
    make_file("file", "x");
    const std::string name = path("file");
    const std::size_t before = open_descriptors();
    for (unsigned entries : {1U, 64U}) {
        Ring ring(options(entries));
        for (int i = 0; i < 10; ++i) {
            ring.spawn(open_and_lose(ring, name.c_str()));
            ring.spawn(open_and_close(ring, name.c_str()));
            ring.spawn(just_close(ring, ::dup(0)));
        }
        ring.abandon();
        EXPECT_TRUE(ring.idle());
    }
    EXPECT_EQ(open_descriptors(), before);
}

Task<void> everything(Ring& ring, const std::string* name, std::int64_t* failed) {
    const std::int64_t opened = co_await ring.open_at(AT_FDCWD, name->c_str(), O_RDWR | O_CREAT, 0600);
    if (opened < 0) {
        *failed = opened;
        co_return;
    }
    const int fd = static_cast<int>(opened);
    std::array<std::byte, 8> buffer{};
    struct statx found {};
    std::int64_t worst = 0;
    worst = std::min(worst, co_await ring.allocate(fd, 0, 0, 4096));
    worst = std::min(worst, co_await ring.write(fd, buffer, 0));
    worst = std::min(worst, co_await ring.read(fd, buffer, 0));
    worst = std::min(worst, co_await ring.stat_at(fd, "", AT_EMPTY_PATH, STATX_SIZE, &found));
    worst = std::min(worst, co_await ring.fsync(fd, true));
    worst = std::min(worst, co_await ring.close(fd));
    *failed = worst;
}

TEST_P(RingFailureTest, EachOperationCanBeMadeToFail) {
    Ring ring(options());
    const std::string name = path("file");
    const std::size_t before = open_descriptors();
    FaultHooks hooks;
    for (std::uint64_t nth = 1;; ++nth) {
        std::int64_t failed = 0;
        hooks.fail_nth(nth, EIO);
        const std::uint64_t injected = hooks.injected();
        ring.wait(everything(ring, &name, &failed));
        EXPECT_EQ(open_descriptors(), before) << nth;
        if (hooks.injected() == injected) {
            EXPECT_EQ(failed, 0);
            EXPECT_EQ(nth, 8U);  // open, allocate, write, read, stat, fsync, close; the eighth doesn't exist
            break;
        }
        EXPECT_EQ(failed, -EIO) << nth;
    }
}

TEST_P(RingFailureTest, InterruptedOperationsAreRepeated) {
    Ring ring(options());
    const FileDescriptor fd = make_file("file", "content");
    FaultHooks hooks;
    for (const int number : {EINTR, EAGAIN}) {
        hooks.fail_nth(1, number);
        std::array<std::byte, 16> into{};
        EXPECT_EQ(result_of(ring, ring.read(fd.get(), into, 0)), 7);
    }
    EXPECT_EQ(hooks.injected(), 2U);
}

}  // namespace
}  // namespace nodesnap::test
