#include "snapshot/prune/pack_state.h"

#include <algorithm>

#include "snapshot/verify/rewrite_pack.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

std::uint64_t segments_end(const PackIndex& index) {
    std::uint64_t end = kPackAlignment;
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        const Segment segment = index.segment(number);
        if (segment.plain_length != 0) {
            end = std::max(end, offset_of(segment, places_of(index) - 1) + segment.stored_length);
        }
    }
    return end;
}

}  // namespace

void UsedSegments::add(std::uint32_t first, std::uint32_t count) {
    if (first >= kSegmentsPerPackLimit || count > kSegmentsPerPackLimit - first) {
        beyond_limit_ = true;
        count = first >= kSegmentsPerPackLimit ? 0 : kSegmentsPerPackLimit - first;
        bits_.resize(std::max<std::size_t>(bits_.size(), 1));  // it isn't empty
    }
    if (count != 0) {
        bits_.resize(std::max<std::size_t>(bits_.size(), (first + count - 1) / 8 + 1));
    }
    for (std::uint32_t number = first; number < first + count; ++number) {
        bits_[number / 8] = static_cast<char>(static_cast<unsigned char>(bits_[number / 8]) | 1U << number % 8);
    }
}

bool UsedSegments::fit(const PackIndex& index) const {
    if (beyond_limit_) {
        return false;
    }
    for (std::uint32_t number = 0; number < bits_.size() * 8; ++number) {
        if (contains(number) && (number >= index.size() || index.segment(number).plain_length == 0)) {
            return false;
        }
    }
    return true;
}

UsedSegments UsedSegments::of_bits(std::string_view bits) {
    UsedSegments used;
    used.bits_ = bits;
    return used;
}

bool PackStates::next(PackState& state) {
    if (!more_) {
        return false;
    }
    state = {};
    state.id = fact_.id;
    for (; more_ && fact_.id == state.id; more_ = ledger_.next(fact_)) {
        switch (fact_.kind) {
            case PackFact::Kind::kExists:
                state.ambiguous = state.ambiguous || (!state.generations.empty() && state.kind != fact_.pack_kind);
                state.kind = fact_.pack_kind;
                state.generations.push_back(fact_.generation);
                state.bytes += fact_.size;
                break;
            case PackFact::Kind::kMentioned:
                state.mentioned = true;
                break;
            case PackFact::Kind::kUsed:
                for (const SegmentUse& use : fact_.uses) {
                    state.used.add(use.first, use.count);
                }
                break;
        }
    }
    return true;
}

PackIndex compacted(const PackIndex& index, const UsedSegments& used, std::uint32_t generation) {
    const std::uint64_t alignment = index.kind() == layout::PackKind::kNodes ? kNodeAlignment : kPackAlignment;
    PackIndex result(index.kind(), index.id(), generation);
    std::uint64_t end = kPackAlignment;
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        Segment segment = index.segment(number);
        if (!used.contains(number) || segment.plain_length == 0) {
            result.add({}, {});
            continue;
        }
        segment.offset = round_up(end, alignment);
        end = segment.offset + segment.stored_length;
        result.add(segment, index.blocks(number), segment.codec != Codec::kNone ? index.stored_checksum(number) : Checksum{});
    }
    // The second copies lie behind the first ones, in the same distances.
    const std::uint64_t distance = round_up(end, kPackAlignment) - kPackAlignment;
    for (std::uint32_t number = 0; places_of(index) == 2 && number < result.size(); ++number) {
        if (result.segment(number).plain_length != 0) {
            result.set_second_offset(number, result.segment(number).offset + distance);
        }
    }
    return result;
}

std::uint64_t object_bytes(const Uuid& repository, const PackIndex& index) {
    const std::uint64_t end = segments_end(index);
    return end + pack_tail(repository, index, end).size();
}

}  // namespace nodesnap
