#include "io/semaphore.h"

#include <chrono>
#include <vector>

#include "ring_fixture.h"

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;

class SemaphoreTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Modes, SemaphoreTest, testing::Bool(), ring_mode);

struct Load {
    std::uint64_t now = 0;
    std::uint64_t most = 0;
    std::vector<int> order;
};

Task<void> hold_for_a_while(Ring& ring, AsyncSemaphore& semaphore, std::uint64_t units, int id, Load* load) {
    const auto hold = co_await semaphore.acquire(units);
    load->order.push_back(id);
    load->now += hold.units();
    load->most = std::max(load->most, load->now);
    co_await ring.sleep(100us);
    load->now -= hold.units();
}

TEST_P(SemaphoreTest, NeverGivesMoreThanItHas) {
    Ring ring(options());
    AsyncSemaphore semaphore(ring, 5);
    Load load;
    for (int i = 0; i < 200; ++i) {
        ring.spawn(hold_for_a_while(ring, semaphore, static_cast<std::uint64_t>(1 + i % 3), i, &load));
    }
    ring.run();
    EXPECT_EQ(load.order.size(), 200U);
    EXPECT_LE(load.most, 5U);
    EXPECT_EQ(semaphore.available(), 5U);
}

Task<void> take_when(AsyncEvent& event, AsyncSemaphore& semaphore, std::uint64_t units, int id, Load* load) {
    const auto hold = co_await semaphore.acquire(units);
    load->order.push_back(id);
    co_await event.wait();
}

TEST_P(SemaphoreTest, WhoAsksForManyIsNotOvertaken) {
    Ring ring(options());
    AsyncSemaphore semaphore(ring, 4);
    AsyncEvent first_goes(ring);
    AsyncEvent others_go(ring);
    others_go.set();
    Load load;
    ring.spawn(take_when(first_goes, semaphore, 2, 1, &load));
    ring.spawn(take_when(others_go, semaphore, 4, 2, &load));
    ring.spawn(take_when(others_go, semaphore, 1, 3, &load));  // would fit, but 2 came first
    EXPECT_EQ(load.order, std::vector<int>{1});
    first_goes.set();
    ring.run();
    EXPECT_EQ(load.order, (std::vector<int>{1, 2, 3}));
}

TEST_P(SemaphoreTest, WhoAsksForMoreThanThereIsGetsAll) {
    Ring ring(options());
    AsyncSemaphore semaphore(ring, 4);
    Load load;
    ring.spawn(hold_for_a_while(ring, semaphore, 100, 1, &load));
    ring.run();
    EXPECT_EQ(load.most, 4U);
    EXPECT_EQ(semaphore.available(), 4U);
}

TEST_P(SemaphoreTest, AbandonedHoldersAndWaitersGiveTheirUnitsBack) {
    Ring ring(options());
    AsyncSemaphore semaphore(ring, 2);
    AsyncEvent never(ring);
    Load load;
    for (int i = 0; i < 5; ++i) {
        ring.spawn(take_when(never, semaphore, 1, i, &load));
    }
    EXPECT_EQ(semaphore.available(), 0U);
    ring.abandon();
    EXPECT_EQ(semaphore.available(), 2U);
    EXPECT_EQ(load.order, (std::vector<int>{0, 1}));
}

TEST_P(SemaphoreTest, AnEventLetsAllGoAndStaysSet) {
    Ring ring(options());
    AsyncSemaphore semaphore(ring, 10);
    AsyncEvent event(ring);
    Load load;
    for (int i = 0; i < 3; ++i) {
        ring.spawn(take_when(event, semaphore, 1, i, &load));
    }
    EXPECT_EQ(ring.running(), 3U);
    event.set();
    EXPECT_EQ(ring.running(), 3U);  // resumed by the ring, not inside set()
    ring.run();
    ring.spawn(take_when(event, semaphore, 1, 3, &load));
    EXPECT_TRUE(ring.idle());
    event.reset();
    ring.spawn(take_when(event, semaphore, 1, 4, &load));
    EXPECT_FALSE(ring.idle());
    event.set();
    ring.run();
    EXPECT_EQ(load.order.size(), 5U);
}

}  // namespace
}  // namespace nodesnap::test
