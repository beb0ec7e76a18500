// Going through a tree from left to right: TreeWalk visits the leaves, for cursors; SubtreeWalk stops before each subtree, so that whoever
// knows it already can leave it out, for differences. What they prove of a node serves the editors too.
//
// Each node must be what its parent says: its height, its first key, the number of entries below it, and all of its keys below those
// of the parent's next child. So a walk ends: heights fall with every step down, and no node can be a child twice.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
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

// Stands before a subtree that hasn't been read, at an element of a leaf, or at the end. At first before the whole tree. One thread.
// Memory: one node per level.
class SubtreeWalk {
public:
    SubtreeWalk(NodeReader& nodes, NodeView::Content leaf_content, const std::optional<NodeRef>& root, std::uint64_t count);

    bool at_end() const { return !unread_ && path_.empty(); }
    bool at_subtree() const { return unread_.has_value(); }
    // Not at the end: the subtree's first key, which is empty for a whole tree, or the element's (kEntries only).
    std::string_view key() const;
    NodeRef subtree() const { return {unread_->child.at, unread_->height}; }                  // at_subtree()
    std::span<const std::byte> value() const { return top().node->view.value(top().index); }  // at an element of kEntries
    const Run& run() const { return run_; }                                                   // at an element of kRuns
    // At a subtree: reads its node and stands at the first of what is in it.
    void open();
    // `opened` is told each node before it is read.
    using Opened = std::function<void(const SegmentRef& node)>;
    void watch(Opened opened) { opened_ = std::move(opened); }
    // Goes past the subtree, or to the next element.
    void skip();

private:
    struct Step {
        std::shared_ptr<const VerifiedNode> node;
        std::uint32_t index = 0;  // of the child or element that it stands at, or has gone down to
        std::string upper_bound;
    };
    const Step& top() const { return path_.back(); }
    void arrive();

    NodeReader& nodes_;
    NodeView::Content leaf_content_;
    Opened opened_;
    std::optional<Subtree> unread_;
    std::vector<Step> path_;
    Run run_;
};

}  // namespace nodesnap
