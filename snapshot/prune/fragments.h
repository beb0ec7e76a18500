// Fragments: the parts of a file whose data lies in many small pieces, as pages that are rewritten in place leave it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "snapshot/repository/tree.h"

namespace nodesnap {

// One stretch of data without a hole, of at most kSegmentLimit bytes, within one window.
struct DataRange {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
};

// A window of kSegmentLimit bytes of the file, at a multiple of that, that is worth writing anew.
struct Fragment {
    std::uint32_t runs = 0;         // with data that begin in it or reach into it
    std::vector<DataRange> ranges;  // that hold the same data; fewer by far
    std::uint64_t bytes() const;
};

// Calls `each` for every one of the file, in order of offsets. Error::damaged where the map can't be read. One thread. Memory: one node
// per level, and one window's ranges.
void for_each_fragment(NodeReader& nodes, const Inode& inode, const std::function<void(const Fragment&)>& each);

}  // namespace nodesnap
