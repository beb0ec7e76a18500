// Going through the leaves of a tree from left to right; shared by TreeCursor, tree_find and MapCursor.
//
// Each node must be what its parent says: its height, its first key, the number of entries below it, and all of its keys below those
// of the parent's next child. So a walk ends: heights fall with every step down, and no node can be a child twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

class TreeWalk {
public:
    TreeWalk(NodeReader& nodes, NodeView::Content leaf_content, const std::optional<NodeRef>& root, std::uint64_t count)
        : nodes_(nodes), leaf_content_(leaf_content), root_(root), count_(count) {}

    // Goes to the leaf that would hold `key` (the first one, if it comes before all). False if the tree is empty.
    bool seek(std::string_view key);
    // Goes to the next leaf. False at the end; then leaf() may not be called.
    bool next();
    const NodeView& leaf() const { return path_.back().node->view; }

private:
    struct Step {
        std::shared_ptr<const VerifiedNode> node;
        std::uint32_t child = 0;  // the one that the walk went down to
        std::string upper_bound;  // of the keys; empty: none
    };

    void descend(std::string_view key);
    void push(const SegmentRef& at, std::uint8_t height, std::uint64_t count, std::string_view first_key, std::string upper_bound);
    void push_child();
    [[noreturn]] void damaged(const SegmentRef& at, const char* what) const;

    NodeReader& nodes_;
    NodeView::Content leaf_content_;
    std::optional<NodeRef> root_;
    std::uint64_t count_;
    std::vector<Step> path_;
};

}  // namespace nodesnap
