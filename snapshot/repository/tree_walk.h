// Going down a stored tree, and through its leaves from left to right; shared by cursors and editors.
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

// What a parent says of a node.
struct Subtree {
    NodeChild child;
    std::uint8_t height = 0;
    std::string key;          // its first; empty for a root, of which nothing says it
    std::string upper_bound;  // of its keys; empty: none
};

// Reads the node and proves what its parent says of it; Error::damaged.
std::shared_ptr<const VerifiedNode> load_node(NodeReader& nodes, const Subtree& claim, NodeView::Content leaf_content);
// What `parent`, whose keys are below `upper_bound`, says of its child `i`.
Subtree child_of(const NodeView& parent, std::uint32_t i, const std::string& upper_bound);

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
    void push(Subtree claim);
    void push_child();

    NodeReader& nodes_;
    NodeView::Content leaf_content_;
    std::optional<NodeRef> root_;
    std::uint64_t count_;
    std::vector<Step> path_;
};

}  // namespace nodesnap
