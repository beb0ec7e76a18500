// TreeDiff: the keys whose values differ between two trees, in order, without reading what the trees share.
//
// A later backup's tree refers to the unchanged nodes of an earlier one. Where both trees come to the same node, at whatever height, it is
// left out in both; so the cost follows what differs, plus the nodes above it. The trees may have different heights, and nodes that begin
// at different keys. What differs in bytes but not in meaning is for the caller to tell.
#pragma once

#include <optional>
#include <string>

#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_walk.h"

namespace nodesnap {

struct TreeChange {
    std::string key;
    std::optional<Bytes> before, after;  // none: the tree doesn't hold the key; never both
};

// One thread. Memory: one node per level of each tree. Throws what reading a node throws.
class TreeDiff {
public:
    TreeDiff(NodeReader& nodes, const TreeRoot& before, const TreeRoot& after);
    bool next(TreeChange& change);  // false at the end
    // Is told the nodes of the tree `after` that `before` doesn't have in the same place. Before the first next().
    void watch_after(SubtreeWalk::Opened opened) { after_.watch(std::move(opened)); }

private:
    bool skip_or_open();
    static void take(SubtreeWalk& walk, std::optional<Bytes>& value);

    SubtreeWalk before_, after_;
};

}  // namespace nodesnap
