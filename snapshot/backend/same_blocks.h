// SameBlocks: which blocks of a device hold in one snapshot what they hold in another.
//
// A bitmap, so that it takes constant memory however the blocks lie: one bit a block, or, of very large devices, a bit for several blocks
// that count as the same only together. Reading is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nodesnap {

class SameBlocks {
public:
    static constexpr std::size_t kMemory = 16U << 20;  // one bit a block of 64 KiB up to 8 TiB

    SameBlocks(std::uint64_t block_bytes, std::uint64_t device_bytes, std::size_t memory = kMemory);

    // Blocks that are the same. Ascending, without overlap.
    void add(std::uint64_t first, std::uint64_t count);

    struct Stretch {
        std::uint64_t end = 0;
        bool same = false;
    };
    // Of bytes of the device, in [begin, end): up to where all are the same, or none is known to be. At least one byte, if there is one.
    Stretch stretch(std::uint64_t begin, std::uint64_t end) const;

private:
    bool get(std::uint64_t unit) const { return unit < units_ && (bits_[unit / 64] >> (unit % 64) & 1) != 0; }

    std::uint64_t blocks_per_unit_ = 1;
    std::uint64_t unit_bytes_ = 0;
    std::uint64_t units_ = 0;      // the last may be cut short by the device's end
    std::uint64_t run_begin_ = 0;  // blocks: of what was added last, with what adjoins before it
    std::uint64_t run_end_ = 0;
    std::vector<std::uint64_t> bits_;
};

}  // namespace nodesnap
