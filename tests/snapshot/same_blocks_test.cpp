// Which blocks of a device are the same in two snapshots; whose the reserved metadata of a thin pool are.
#include "snapshot/backend/same_blocks.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "snapshot/backend/lvm_metadata.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kBlock = 64U << 10;

TEST(SameBlocks, TellStretches) {
    SameBlocks blocks(kBlock, 10 * kBlock + 1);
    blocks.add(2, 3);
    blocks.add(8, 100);  // beyond the end of the device
    const auto expect = [&](std::uint64_t begin, std::uint64_t end, std::uint64_t reached, bool same) {
        const auto stretch = blocks.stretch(begin, end);
        EXPECT_EQ(stretch.end, reached) << begin;
        EXPECT_EQ(stretch.same, same) << begin;
    };
    expect(0, 10 * kBlock, 2 * kBlock, false);
    expect(2 * kBlock - 1, 10 * kBlock, 2 * kBlock, false);
    expect(2 * kBlock, 10 * kBlock, 5 * kBlock, true);
    expect(2 * kBlock, 2 * kBlock + 1, 2 * kBlock + 1, true);
    expect(5 * kBlock - 1, 5 * kBlock, 5 * kBlock, true);
    expect(5 * kBlock, 10 * kBlock, 8 * kBlock, false);
    expect(100 * kBlock, 1000 * kBlock, 1000 * kBlock, false);
}

// In less memory than a bit for each block takes nothing becomes the same that isn't.
TEST(SameBlocks, OfALargeDeviceAreToldCoarsely) {
    constexpr std::uint64_t kBlocks = 10'007;
    std::mt19937_64 random(1);
    for (const std::size_t memory : {std::size_t{1} << 20, std::size_t{200}, std::size_t{8}}) {
        SameBlocks blocks(kBlock, kBlocks * kBlock, memory);
        std::vector<bool> same(kBlocks);
        for (std::uint64_t at = 0; at < kBlocks;) {
            const std::uint64_t length = std::min<std::uint64_t>(1 + random() % 2000, kBlocks - at);
            if (random() % 3 != 0) {  // adjoining ones too
                blocks.add(at, length);
                std::fill_n(same.begin() + static_cast<std::ptrdiff_t>(at), length, true);
            }
            at += length;
        }
        std::uint64_t told = 0;
        for (std::uint64_t at = 0; at < kBlocks * kBlock;) {
            const auto stretch = blocks.stretch(at, kBlocks * kBlock);
            ASSERT_GT(stretch.end, at);
            for (std::uint64_t block = at / kBlock; stretch.same && block * kBlock < stretch.end; ++block) {
                ASSERT_TRUE(same[block]) << block;
                ++told;
            }
            at = stretch.end;
        }
        const auto all = static_cast<std::uint64_t>(std::count(same.begin(), same.end(), true));
        EXPECT_EQ(told == all, memory > 2000) << memory;
        EXPECT_GT(told, memory > 100 ? all / 2 : 0);
    }
}

TEST(ReservedMetadata, AreOursIfAMarkSaysSo) {
    EXPECT_EQ(who_reserved(0, {"nodesnap", "nodesnap.metadata.7"}), ReservedBy::kNobody);
    EXPECT_EQ(who_reserved(7, {"nodesnap"}), ReservedBy::kOthers);
    EXPECT_EQ(who_reserved(7, {"nodesnap.metadata.8"}), ReservedBy::kOthers);  // ours were released by somebody
    EXPECT_EQ(who_reserved(7, {"nodesnap", "nodesnap.metadata.7"}), ReservedBy::kUs);
    EXPECT_EQ(who_reserved(7, {"nodesnap.metadata.soon"}), ReservedBy::kUs);  // killed before it was known where they are
}

}  // namespace
}  // namespace nodesnap
