#include "snapshot/backend/same_blocks.h"

#include <algorithm>

namespace nodesnap {

SameBlocks::SameBlocks(std::uint64_t block_bytes, std::uint64_t device_bytes, std::size_t memory) {
    const std::uint64_t blocks = device_bytes / block_bytes + (device_bytes % block_bytes != 0 ? 1 : 0);
    while (blocks / blocks_per_unit_ / 8 >= memory) {
        blocks_per_unit_ *= 2;
    }
    unit_bytes_ = block_bytes * blocks_per_unit_;
    units_ = blocks / blocks_per_unit_ + (blocks % blocks_per_unit_ != 0 ? 1 : 0);
    bits_.resize(units_ / 64 + 1);
}

void SameBlocks::add(std::uint64_t first, std::uint64_t count) {
    std::uint64_t from = run_end_;
    if (first != run_end_) {
        run_begin_ = from = first;
    }
    run_end_ = first + count;
    // The unit in which what was there before ends may be whole now.
    const std::uint64_t begin = std::max((run_begin_ + blocks_per_unit_ - 1) / blocks_per_unit_, from / blocks_per_unit_);
    const std::uint64_t end = std::min(run_end_ / blocks_per_unit_, units_);
    for (std::uint64_t unit = begin; unit < end; ++unit) {
        bits_[unit / 64] |= std::uint64_t{1} << (unit % 64);
    }
}

SameBlocks::Stretch SameBlocks::stretch(std::uint64_t begin, std::uint64_t end) const {
    std::uint64_t unit = begin / unit_bytes_;
    const bool same = get(unit);
    do {
        ++unit;
    } while (unit <= (end - 1) / unit_bytes_ && get(unit) == same);
    return {std::min(end, unit * unit_bytes_), same};
}

}  // namespace nodesnap
