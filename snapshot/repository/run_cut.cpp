#include "snapshot/repository/run_cut.h"

#include <algorithm>
#include <optional>
#include <string>

namespace nodesnap {
namespace {

bool is_possible(const Segment& segment) {
    return segment.offset % kPackAlignment == 0 && segment.offset < (1ULL << 62) && segment.plain_length != 0 &&
           segment.plain_length <= kSegmentLimit && segment.stored_length <= kSegmentLimit &&
           (segment.codec == Codec::kNone ? segment.stored_length == segment.plain_length : segment.codec == Codec::kZstd);
}

}  // namespace

void for_each_segment(const PackIndex& index, const Run& run, std::uint64_t from, std::uint64_t length, const BrokenRun& broken,
                      const std::function<void(const SegmentRange&)>& each) {
    if (run.first > index.size() || run.count > index.size() - run.first) {
        throw broken(run.first, "there is no such segment");
    }
    std::uint64_t skip = run.skip + from;  // bytes still to be passed over
    for (std::uint32_t number = run.first; number < run.first + run.count && length != 0; ++number) {
        const Segment segment = index.segment(number);
        if (!is_possible(segment)) {
            throw broken(number, "its entry in the footer is impossible");
        }
        if (skip >= segment.plain_length) {
            skip -= segment.plain_length;
            continue;
        }
        const auto here = static_cast<std::uint32_t>(std::min<std::uint64_t>(length, segment.plain_length - skip));
        each({number, static_cast<std::uint32_t>(skip), here});
        skip = 0;
        length -= here;
    }
    if (length != 0) {
        throw broken(run.first, "the segments hold less than the file map says");
    }
}

Run part_of(const Run& run, std::uint64_t from, std::uint64_t length, PackCache& packs) {
    Run part = run;
    part.offset += from;
    part.length = length;
    if (run.flags != Run::kNone || (from == 0 && length == run.length)) {
        return part;
    }
    if (run.count == 1) {
        part.skip += static_cast<std::uint32_t>(from);
        return part;
    }
    const auto pack = packs.get(layout::PackKind::kData, run.pack);
    const auto broken = [&](std::uint32_t segment, const char* what) {
        return Error::damaged(pack->object(), "segment " + std::to_string(segment) + ": " + what + "; a file map refers to it",
                              "run `nodesnap verify` to learn which backups it affects");
    };
    std::optional<SegmentRange> first;
    for_each_segment(pack->index(), run, from, length, broken, [&](const SegmentRange& range) {
        if (!first) {
            first = range;
        }
        part.count = range.number - first->number + 1;
    });
    part.first = first->number;
    part.skip = first->from;
    return part;
}

bool same_data(const Run& a, const Run& b, std::uint64_t begin, std::uint64_t end, PackCache& packs) {
    if (a.flags != b.flags || a.pack != b.pack) {
        return false;
    }
    if (a.flags == Run::kNone && (a.first >= b.first + b.count || b.first >= a.first + a.count)) {
        return false;
    }
    return part_of(a, begin - a.offset, end - begin, packs) == part_of(b, begin - b.offset, end - begin, packs);
}

}  // namespace nodesnap
