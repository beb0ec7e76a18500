#include "snapshot/repository/pack.h"

#include <algorithm>

#include "platform/error.h"

namespace nodesnap {
namespace {

// A pack with a wrong index could never be read again: better no backup than that one.
void require(bool holds, const char* what) {
    if (!holds) {
        throw Error::failed(std::string("internal error: ") + what, "please report this");
    }
}

}  // namespace

std::uint32_t PackIndex::reserve(const Segment& segment) {
    const std::uint32_t blocks = block_count(segment.plain_length);
    require(segments_.size() < kSegmentsPerPackLimit && blocks_.size() + blocks <= kBlocksPerPackLimit, "a pack has too many segments");
    if (segment == Segment{}) {
        segments_.push_back(segment);
        first_block_.push_back(static_cast<std::uint32_t>(blocks_.size()));
        stored_.resize(stored_.empty() ? 0 : segments_.size());
        return size() - 1;
    }
    require(segment.plain_length > 0 && segment.plain_length <= kSegmentLimit && segment.stored_length > 0,
            "a segment is too long or empty");
    require(segment.offset >= end_, "segments overlap in a pack");
    require(segment.codec != Codec::kNone || segment.stored_length == segment.plain_length, "a segment's lengths differ");
    segments_.push_back(segment);
    first_block_.push_back(static_cast<std::uint32_t>(blocks_.size()));
    blocks_.resize(blocks_.size() + blocks);
    if (segment.codec != Codec::kNone || !stored_.empty()) {
        stored_.resize(segments_.size());
    }
    end_ = segment.offset + segment.stored_length;
    return size() - 1;
}

std::uint32_t PackIndex::add(const Segment& segment, std::span<const Checksum> blocks, const Checksum& stored) {
    const std::uint32_t number = reserve(segment);
    set_blocks(number, blocks);
    if (segment.codec != Codec::kNone) {
        stored_[number] = stored;
    }
    return number;
}

void PackIndex::set_blocks(std::uint32_t number, std::span<const Checksum> blocks) {
    require(number < size() && blocks.size() == block_count(segments_[number].plain_length), "a segment has the wrong number of checksums");
    std::copy(blocks.begin(), blocks.end(), blocks_.begin() + first_block_[number]);
}

void PackIndex::set_second_offset(std::uint32_t number, std::uint64_t offset) {
    require(number < size(), "no such segment");
    segments_[number].second_offset = offset;
}

void PackIndex::drop(std::uint32_t number) {
    require(number < size(), "no such segment");
    segments_[number] = {};
}

std::span<const Checksum> PackIndex::blocks(std::uint32_t number) const {
    return std::span(blocks_).subspan(first_block_[number], block_count(segments_[number].plain_length));
}

const Checksum& PackIndex::stored_checksum(std::uint32_t number) const {
    static const Checksum kNoChecksum;
    return stored_.empty() ? kNoChecksum : stored_[number];
}

std::size_t PackIndex::memory_bytes() const {
    return sizeof(*this) + segments_.capacity() * sizeof(Segment) + first_block_.capacity() * sizeof(std::uint32_t) +
           (blocks_.capacity() + stored_.capacity()) * sizeof(Checksum);
}

}  // namespace nodesnap
