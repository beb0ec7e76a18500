// Goes through all nodes of a tree, proves what format.md says of them, and counts them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/repository/tree_walk.h"

namespace nodesnap::test {

struct TreeShape {
    std::uint64_t nodes = 0;
    std::uint64_t leaves = 0;
    std::uint64_t smallest_leaf = UINT64_MAX;  // its entries
};

inline void check_below(NodeReader& nodes, const Subtree& subtree, NodeView::Content leaf_content, TreeShape& shape) {
    const auto node = load_node(nodes, subtree, leaf_content);  // throws for what a reader wouldn't take
    ++shape.nodes;
    if (subtree.height == 0) {
        ++shape.leaves;
        shape.smallest_leaf = std::min(shape.smallest_leaf, node->view.total());
    }
    for (std::uint32_t i = 0; subtree.height != 0 && i < node->view.size(); ++i) {
        check_below(nodes, child_of(node->view, i, subtree.upper_bound), leaf_content, shape);
    }
}

inline TreeShape check_tree(NodeReader& nodes, const std::optional<NodeRef>& root, std::uint64_t count, NodeView::Content leaf_content) {
    TreeShape shape;
    if (!root) {
        EXPECT_EQ(count, 0U);
        return shape;
    }
    check_below(nodes, {{root->at, count}, root->height, {}, {}}, leaf_content, shape);
    if (root->height != 0) {
        EXPECT_GT(nodes.get_verified(root->at)->view.size(), 1U) << "a root with one child";
    }
    return shape;
}

}  // namespace nodesnap::test
