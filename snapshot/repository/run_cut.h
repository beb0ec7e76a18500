// Where the bytes of a run lie in the segments of its pack, and runs that say a part of what another says.
#pragma once

#include <cstdint>
#include <functional>

#include "platform/error.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

// A range of one segment's plaintext.
struct SegmentRange {
    std::uint32_t number = 0;
    std::uint32_t from = 0;
    std::uint32_t length = 0;  // > 0
};

// Tells the Error that says what is wrong with a run, at that segment; called only on errors.
using BrokenRun = std::function<Error(std::uint32_t segment, const char* what)>;

// Calls `each` for the segments that hold [from, from + length) of a run with data, in order; `from` counts from the run's beginning.
// `index` is its pack's. Throws what `broken` gives for a run that names segments which aren't there, can't be, or hold less.
void for_each_segment(const PackIndex& index, const Run& run, std::uint64_t from, std::uint64_t length, const BrokenRun& broken,
                      const std::function<void(const SegmentRange&)>& each);

// The run that says what [from, from + length) of `run` says; it must lie within it. Reads the pack's footer if the run has several
// segments and isn't taken whole; Error::damaged if that doesn't hold them.
Run part_of(const Run& run, std::uint64_t from, std::uint64_t length, PackCache& packs);

// Whether both say the same of [begin, end), which both must cover. No footer is read unless they share segments.
bool same_data(const Run& a, const Run& b, std::uint64_t begin, std::uint64_t end, PackCache& packs);

}  // namespace nodesnap
