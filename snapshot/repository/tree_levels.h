// The inner levels of a tree that is built from its leaves upwards; shared by TreeBuilder and MapBuilder.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

// Memory: one node per level.
class TreeLevels {
public:
    explicit TreeLevels(NodeWriter& nodes) : nodes_(nodes) {}
    // The next leaf, which has been put; `key` is its first.
    void add_leaf(std::string_view key, const NodeChild& leaf) { add(0, key, leaf); }
    // Writes what is open, and returns the root; there must have been a leaf.
    NodeRef finish();

private:
    void add(std::size_t child_height, std::string_view key, const NodeChild& child);
    void flush(std::size_t child_height);

    NodeWriter& nodes_;
    std::vector<ChildColumns> levels_;  // [i] holds children of height i
};

}  // namespace nodesnap
