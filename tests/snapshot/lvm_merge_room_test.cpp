// How much room a merge needs elsewhere. That the kernel needs no more is seen in a guest (tests/guest/guest_lvm_merge.py).
#include "snapshot/backend/lvm_merge_room.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace nodesnap {
namespace {

constexpr std::uint64_t kChunk = 4096;
constexpr std::uint64_t kVolume = std::uint64_t{320} << 20;

// As the kernel tells of one with so many chunks in it, of that size: a header, the tables, the data.
lvm::SnapshotFill filled(std::uint64_t chunks, std::uint64_t chunk = kChunk) {
    const std::uint64_t per_table = chunk / 16;
    lvm::SnapshotFill fill;
    fill.metadata_bytes = (1 + chunks / per_table + 1) * chunk;
    fill.used_bytes = chunks * chunk + fill.metadata_bytes;
    return fill;
}

TEST(LvmMergeRoom, ASnapshotOfTheSameChunksHasRoomForAllThatIsMerged) {
    for (const std::uint64_t chunks : {0, 1, 255, 256, 257, 15361}) {
        EXPECT_GE(room_for_copies(filled(chunks), kChunk, kChunk, kVolume), filled(chunks).used_bytes) << chunks;
        EXPECT_LE(room_for_copies(filled(chunks), kChunk, kChunk, kVolume), filled(chunks).used_bytes + 2 * kChunk) << chunks;
    }
}

TEST(LvmMergeRoom, EachChunkMayTouchAnotherLargerOne) {
    EXPECT_GE(room_for_copies(filled(100), kChunk, 16 * kChunk, kVolume), 100 * 16 * kChunk);
    EXPECT_LE(room_for_copies(filled(100), kChunk, 16 * kChunk, kVolume), 104 * 16 * kChunk);
}

TEST(LvmMergeRoom, ALargerChunkIsManySmallerOnes) {
    EXPECT_GE(room_for_copies(filled(100, 16 * kChunk), 16 * kChunk, kChunk, kVolume), filled(1600).used_bytes);
}

TEST(LvmMergeRoom, NoMoreThanTheVolumeIsCopied) {
    EXPECT_LE(room_for_copies(filled(80000), kChunk, 16 * kChunk, kVolume), kVolume + kVolume / 100);
}

}  // namespace
}  // namespace nodesnap
