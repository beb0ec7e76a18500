#include "io/buffer_pool.h"

#include <chrono>
#include <cstring>
#include <set>
#include <vector>

#include "platform/error.h"
#include "ring_fixture.h"

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;

class BufferPoolTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, BufferPoolTest, testing::Bool(), ring_mode);

TEST_P(BufferPoolTest, GivesAlignedBuffersThatDoNotOverlap) {
    Ring ring(options());
    BufferPool pool(ring, {.count = 5, .buffer_bytes = 12288});
    EXPECT_EQ(ring.region_registered(), !blocking());
    std::vector<Buffer> all;
    while (Buffer buffer = pool.try_acquire()) {
        EXPECT_EQ(buffer.size(), 12288U);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0U);
        std::memset(buffer.data(), static_cast<int>(all.size()), buffer.size());
        all.push_back(std::move(buffer));
    }
    ASSERT_EQ(all.size(), 5U);
    EXPECT_EQ(pool.available(), 0U);
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto span = all[i].span();
        EXPECT_TRUE(std::all_of(span.begin(), span.end(), [i](std::byte byte) { return byte == static_cast<std::byte>(i); }));
    }
    all.clear();
    EXPECT_EQ(pool.available(), 5U);
}

TEST_P(BufferPoolTest, ABufferMovesAndGoesBackOnce) {
    Ring ring(options());
    BufferPool pool(ring, {.count = 2, .buffer_bytes = 4096});
    Buffer first = pool.try_acquire();
    Buffer second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(first.size(), 0U);
    second = pool.try_acquire();
    EXPECT_EQ(pool.available(), 1U);
    second.reset();
    second.reset();
    EXPECT_EQ(pool.available(), 2U);
}

Task<void> borrow(Ring& ring, BufferPool& pool, int id, std::vector<int>* order, std::set<std::byte*>* held) {
    const Buffer buffer = co_await pool.acquire();
    order->push_back(id);
    EXPECT_TRUE(held->insert(buffer.data()).second) << "given to two at once";
    co_await ring.sleep(50us);
    held->erase(buffer.data());
}

TEST_P(BufferPoolTest, TheFirstToWaitIsTheFirstServed) {
    Ring ring(options());
    BufferPool pool(ring, {.count = 3, .buffer_bytes = 4096});
    std::vector<int> order;
    std::set<std::byte*> held;
    std::vector<int> expected;
    for (int i = 0; i < 100; ++i) {
        ring.spawn(borrow(ring, pool, i, &order, &held));
        expected.push_back(i);
    }
    ring.run();
    EXPECT_EQ(order, expected);
    EXPECT_EQ(pool.available(), 3U);
}

TEST_P(BufferPoolTest, AbandonedHoldersAndWaitersGiveTheirBuffersBack) {
    Ring ring(options());
    BufferPool pool(ring, {.count = 1, .buffer_bytes = 4096});
    std::vector<int> order;
    std::set<std::byte*> held;
    Buffer mine = pool.try_acquire();
    for (int i = 0; i < 3; ++i) {
        ring.spawn(borrow(ring, pool, i, &order, &held));
    }
    mine.reset();  // promised to the first of them, which doesn't get to run
    EXPECT_EQ(pool.available(), 0U);
    ring.abandon();
    EXPECT_EQ(pool.available(), 1U);
    EXPECT_TRUE(order.empty());
}

Task<void> read_pipe(Ring& ring, BufferPool& pool, int fd) {
    const Buffer buffer = co_await pool.acquire();
    co_await ring.read(fd, buffer.span(), 0);
}

class BufferPoolInFlightTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, BufferPoolInFlightTest, testing::Values(false), ring_mode);

TEST_P(BufferPoolInFlightTest, APoolThatGoesFirstEndsWhatStillUsesIt) {
    const Pipe pipe;
    Ring ring(options());
    {
        BufferPool pool(ring, {.count = 2, .buffer_bytes = 4096});
        ring.spawn(read_pipe(ring, pool, pipe.reader.get()));
        ring.spawn(read_pipe(ring, pool, pipe.reader.get()));
        ring.spawn(read_pipe(ring, pool, pipe.reader.get()));
    }
    EXPECT_TRUE(ring.idle());
    EXPECT_FALSE(ring.region_registered());
}

TEST_P(BufferPoolTest, RefusesSizesThatAreNotWholePages) {
    Ring ring(options());
    EXPECT_THROW(BufferPool(ring, {.count = 1, .buffer_bytes = 1000}), Error);
    EXPECT_THROW(BufferPool(ring, {.count = 0, .buffer_bytes = 4096}), Error);
}

}  // namespace
}  // namespace nodesnap::test
