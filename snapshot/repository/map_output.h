// Puts a file's map together from runs and from stored subtrees, in ascending order; shared by MapBuilder and MapEditor.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_splice.h"

namespace nodesnap {

// Runs that continue each other are merged, and up to kInlineRunLimit of them stay out of a tree. Memory: that of TreeSplice.
class MapOutput {
public:
    // `stored`: where subtrees come from; may be null if none will come.
    MapOutput(NodeWriter& nodes, NodeReader* stored) : tree_(nodes, stored) {}

    // `to_segment_end`: the run is known to end where its last segment does.
    void add(const Run& run, bool to_segment_end = false);
    void add(const Subtree& subtree);
    MapBuilder::Result finish();
    std::uint64_t nodes_written() const { return tree_.nodes_written(); }

private:
    void put_last();
    void put(const Run& run);
    void put_first_runs();

    TreeSplice<RunColumns> tree_;
    std::vector<Run> first_runs_;  // until there are too many for the inode record
    bool in_tree_ = false;
    std::optional<Run> last_;  // may still be continued
    bool last_to_segment_end_ = false;
};

}  // namespace nodesnap
