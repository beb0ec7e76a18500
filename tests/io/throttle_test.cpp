#include "io/throttle.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;

Throttle::Clock::time_point moment{};
Throttle::Clock::time_point read_moment() {
    return moment;
}

class ThrottleTest : public testing::Test {
protected:
    void SetUp() override { moment = Throttle::Clock::time_point(1h); }
};

TEST_F(ThrottleTest, WithoutACapNobodyWaits) {
    Throttle throttle;
    EXPECT_FALSE(throttle.limited());
    EXPECT_EQ(throttle.reserve(~std::uint64_t{0}), 0ns);
}

TEST_F(ThrottleTest, ATenthOfASecondsWorthGoesAtOnce) {
    Throttle throttle(1'000'000, &read_moment);
    EXPECT_TRUE(throttle.limited());
    EXPECT_EQ(throttle.reserve(60'000), 0ns);
    EXPECT_EQ(throttle.reserve(40'000), 0ns);
    EXPECT_EQ(throttle.reserve(1'000), 1ms);
    EXPECT_EQ(throttle.reserve(1'000), 2ms);
}

TEST_F(ThrottleTest, ALargeReservationWaitsUntilItIsEarned) {
    Throttle throttle(100 * 1024, &read_moment);
    EXPECT_EQ(throttle.reserve(1024 * 1024), 10'240ms - 100ms);
}

TEST_F(ThrottleTest, IdleTimeDoesNotAddUp) {
    Throttle throttle(1'000'000, &read_moment);
    EXPECT_EQ(throttle.reserve(100'000), 0ns);
    moment += 1h;
    EXPECT_EQ(throttle.reserve(100'000), 0ns);
    EXPECT_EQ(throttle.reserve(100'000), 100ms);
}

TEST_F(ThrottleTest, KeepsToTheRateHoweverItIsAsked) {
    Throttle throttle(10'000'000, &read_moment);
    const auto begin = moment;
    std::uint64_t moved = 0;
    for (unsigned i = 0; i < 10'000; ++i) {
        const std::uint64_t bytes = 1 + i * 7919 % 30'000;
        moment += throttle.reserve(bytes);  // the caller sleeps, then moves them
        moved += bytes;
        const std::chrono::duration<double> passed = moment - begin;
        ASSERT_LE(static_cast<double>(moved), 10e6 * (passed.count() + 0.1) + 1);
    }
    const std::chrono::duration<double> passed = moment - begin;
    EXPECT_GE(static_cast<double>(moved), 10e6 * passed.count());  // and doesn't waste it
}

TEST_F(ThrottleTest, IsSharedByThreadsWithoutLosingAByte) {
    Throttle throttle(1'000'000'000, &read_moment);
    std::vector<std::thread> threads(4);
    for (std::thread& thread : threads) {
        thread = std::thread([&] {
            for (int n = 0; n < 10'000; ++n) {
                throttle.reserve(100'000);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(throttle.reserve(0), 4s - 100ms);
}

TEST_F(ThrottleTest, PiecesAreATenthOfASecondInWholePages) {
    EXPECT_EQ(Throttle(10'000'000).smooth_bytes(), 999'424U);
    EXPECT_EQ(Throttle(100'000).smooth_bytes(), 8192U);
    EXPECT_EQ(Throttle(1).smooth_bytes(), 4096U);
    EXPECT_GT(Throttle().smooth_bytes(), std::size_t{1} << 40);
}

TEST_F(ThrottleTest, ACapThatIsChangedCountsFromThenOn) {
    const auto cap = std::make_shared<Throttle::Cap>(1'000'000);
    Throttle throttle(cap);
    throttle.reserve(100'000);
    *cap = 1'000;
    EXPECT_GT(throttle.reserve(10'000), 5s);
    EXPECT_EQ(throttle.smooth_bytes(), 4096U);
    *cap = 0;
    EXPECT_FALSE(throttle.limited());
    EXPECT_EQ(throttle.reserve(~std::uint64_t{0}), 0ns);
}

TEST_F(ThrottleTest, AbsurdSizesDoNotOverflow) {
    Throttle throttle(1, &read_moment);
    for (int i = 0; i < 1000; ++i) {
        EXPECT_GT(throttle.reserve(~std::uint64_t{0}), 0ns);
    }
}

}  // namespace
}  // namespace nodesnap::test
