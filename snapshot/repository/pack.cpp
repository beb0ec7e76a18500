#include "snapshot/repository/pack.h"

#include <algorithm>
#include <numeric>

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

Segment PackIndex::segment(std::uint32_t number) const {
    Segment segment;
    segment.offset = offsets_[number];
    segment.second_offset = second_offsets_.empty() ? 0 : second_offsets_[number];
    segment.plain_length = plain_lengths_[number];
    segment.stored_length = stored_lengths_.empty() ? segment.plain_length : stored_lengths_[number];
    segment.codec = codecs_.empty() ? Codec::kNone : codecs_[number];
    return segment;
}

void PackIndex::append(const Segment& segment, std::uint32_t first_block) {
    const std::size_t number = size();
    if (segment.stored_length != segment.plain_length && stored_lengths_.empty()) {
        stored_lengths_ = plain_lengths_;
    }
    if (segment.stored_length != segment.plain_length || !stored_lengths_.empty()) {
        stored_lengths_.push_back(segment.stored_length);
    }
    if (segment.second_offset != 0 || !second_offsets_.empty()) {
        second_offsets_.resize(number);
        second_offsets_.push_back(segment.second_offset);
    }
    if (segment.codec != Codec::kNone || !codecs_.empty()) {
        codecs_.resize(number, Codec::kNone);
        codecs_.push_back(segment.codec);
        stored_.resize(number + 1);
    }
    const bool one_block = block_count(segment.plain_length) == 1;
    if (!one_block && first_blocks_.empty()) {
        first_blocks_.resize(number);
        std::iota(first_blocks_.begin(), first_blocks_.end(), 0U);
    }
    if (!one_block || !first_blocks_.empty()) {
        first_blocks_.push_back(first_block);
    }
    offsets_.push_back(segment.offset);
    plain_lengths_.push_back(segment.plain_length);
}

// Gives back what the lists have taken in advance.
void PackIndex::fit() {
    offsets_.shrink_to_fit();
    plain_lengths_.shrink_to_fit();
    stored_lengths_.shrink_to_fit();
    second_offsets_.shrink_to_fit();
    codecs_.shrink_to_fit();
    stored_.shrink_to_fit();
    first_blocks_.shrink_to_fit();
    blocks_.shrink_to_fit();
}

std::uint32_t PackIndex::reserve(const Segment& segment) {
    const std::uint32_t blocks = block_count(segment.plain_length);
    require(size() < kSegmentsPerPackLimit && blocks_.size() + blocks <= kBlocksPerPackLimit, "a pack has too many segments");
    if (segment == Segment{}) {
        append(segment, static_cast<std::uint32_t>(blocks_.size()));
        return size() - 1;
    }
    require(segment.plain_length > 0 && segment.plain_length <= kSegmentLimit && segment.stored_length > 0,
            "a segment is too long or empty");
    require(segment.offset >= end_, "segments overlap in a pack");
    require(segment.codec != Codec::kNone || segment.stored_length == segment.plain_length, "a segment's lengths differ");
    append(segment, static_cast<std::uint32_t>(blocks_.size()));
    blocks_.resize(blocks_.size() + blocks);
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
    require(number < size() && blocks.size() == block_count(plain_lengths_[number]), "a segment has the wrong number of checksums");
    std::copy(blocks.begin(), blocks.end(), blocks_.begin() + first_block(number));
}

void PackIndex::set_second_offset(std::uint32_t number, std::uint64_t offset) {
    require(number < size(), "no such segment");
    second_offsets_.resize(size());
    second_offsets_[number] = offset;
}

void PackIndex::drop(std::uint32_t number) {
    require(number < size(), "no such segment");
    // The place of its checksums stays; nobody asks for them.
    offsets_[number] = plain_lengths_[number] = 0;
    if (!stored_lengths_.empty()) {
        stored_lengths_[number] = 0;
    }
    if (!second_offsets_.empty()) {
        second_offsets_[number] = 0;
    }
    if (!codecs_.empty()) {
        codecs_[number] = Codec::kNone;
    }
}

std::span<const Checksum> PackIndex::blocks(std::uint32_t number) const {
    return std::span(blocks_).subspan(first_block(number), block_count(plain_lengths_[number]));
}

const Checksum& PackIndex::stored_checksum(std::uint32_t number) const {
    static const Checksum kNoChecksum;
    return stored_.empty() ? kNoChecksum : stored_[number];
}

std::size_t PackIndex::memory_bytes() const {
    return sizeof(*this) + (offsets_.capacity() + second_offsets_.capacity()) * sizeof(std::uint64_t) +
           (plain_lengths_.capacity() + stored_lengths_.capacity() + first_blocks_.capacity()) * sizeof(std::uint32_t) +
           codecs_.capacity() * sizeof(Codec) + (blocks_.capacity() + stored_.capacity()) * sizeof(Checksum);
}

}  // namespace nodesnap
