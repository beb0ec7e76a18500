#include "snapshot/cluster/shared_cap.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <numeric>
#include <random>

#include "snapshot/cluster/clock_offset.h"

namespace nodesnap::cluster {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

TEST(SharedCap, OneAloneHasAllOfIt) {
    EXPECT_EQ(share_cap(100 * kMiB, {0}), std::vector<std::uint64_t>{100 * kMiB});
    EXPECT_EQ(share_cap(100 * kMiB, {3 * kMiB}), std::vector<std::uint64_t>{100 * kMiB});
}

TEST(SharedCap, WhoUsesItsShareHasAsMuchAsTheOthers) {
    EXPECT_EQ(share_cap(90 * kMiB, {30 * kMiB, 30 * kMiB, 30 * kMiB}), std::vector<std::uint64_t>(3, 30 * kMiB));
}

TEST(SharedCap, WhatOneDoesNotWantIsTheOthers) {
    const auto shares = share_cap(100 * kMiB, {10 * kMiB, 60 * kMiB, 30 * kMiB});
    EXPECT_NEAR(static_cast<double>(shares[0]) / kMiB, 12, 0.1);
    EXPECT_NEAR(static_cast<double>(shares[2]) / kMiB, 36, 0.1);
    EXPECT_NEAR(static_cast<double>(shares[1]) / kMiB, 52, 0.2);
}

TEST(SharedCap, NeverComesToMoreThanTheCapAndLeavesNobodyOut) {
    const unsigned seed = std::random_device()();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    for (int round = 0; round < 2000; ++round) {
        const std::uint64_t cap = 64 * 4096 + random() % (1000 * kMiB);
        std::vector<std::uint64_t> used(1 + random() % 16);
        for (std::uint64_t& one : used) {
            one = random() % (1 + cap);
        }
        const auto shares = share_cap(cap, used);
        ASSERT_EQ(shares.size(), used.size());
        ASSERT_LE(std::accumulate(shares.begin(), shares.end(), std::uint64_t{0}), cap);
        for (const std::uint64_t share : shares) {
            ASSERT_GE(share, 4096U);
        }
    }
}

TEST(ClockOffset, TheQuickestAnswerCounts) {
    ClockOffset clock;
    EXPECT_FALSE(clock.known());
    clock.add(1000, 51'500, 2000);  // 50,000 ahead, both ways as long
    EXPECT_EQ(clock.here(60'000), 10'000);
    EXPECT_EQ(clock.doubt_ns(), 500);
    clock.add(3000, 53'900, 4500);  // a slower one, one way longer than the other
    EXPECT_EQ(clock.here(60'000), 10'000);
    clock.add(5000, 55'050, 5100);
    EXPECT_EQ(clock.here(60'000), 10'000);
    EXPECT_EQ(clock.doubt_ns(), 50);
}

}  // namespace
}  // namespace nodesnap::cluster
