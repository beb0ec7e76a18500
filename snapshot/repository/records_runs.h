// What makes a run one that a writer may have written; shared by records and the nodes of file maps.
#pragma once

#include <cstdint>

#include "snapshot/repository/pack.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

inline constexpr std::uint64_t kFileSizeLimit = 0x7fff'ffff'ffff'ffff;

// nullptr if it is sound, otherwise what is wrong. `previous_end` is where the run before it ends (0 for the first).
inline const char* flaw_of(const Run& run, std::uint64_t previous_end) {
    if (run.length == 0 || run.offset < previous_end || run.offset > kFileSizeLimit || run.length > kFileSizeLimit - run.offset) {
        return "runs overlap, are empty or pass the largest file size";
    }
    if (run.flags == Run::kUnwritten || run.flags == Run::kDamagedSource) {
        return run.pack == PackId{} && run.first == 0 && run.skip == 0 && run.count == 0 ? nullptr : "a run without data names segments";
    }
    if (run.flags != Run::kNone) {
        return "a run has unknown flags";
    }
    if (run.count == 0 || run.count > kSegmentsPerPackLimit || run.first > kSegmentsPerPackLimit - run.count || run.skip >= kSegmentLimit) {
        return "a run's segments are out of bounds";
    }
    // At most what its segments can hold; at least a byte of each, so that no run makes a reader go through segments for nothing.
    if (run.length > std::uint64_t{run.count} * kSegmentLimit - run.skip || run.length < run.count) {
        return "a run's length and its number of segments don't agree";
    }
    return nullptr;
}

}  // namespace nodesnap
