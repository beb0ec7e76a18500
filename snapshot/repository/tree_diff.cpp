#include "snapshot/repository/tree_diff.h"

#include <algorithm>

namespace nodesnap {
namespace {

// Above every leaf's elements, so that what is higher is opened first.
int level(const SubtreeWalk& walk) {
    return walk.at_subtree() ? walk.subtree().height : -1;
}

// Less than 0: what comes next is of `before`; 0: of both; more: of `after`. Not with both at the end.
int order_of(const SubtreeWalk& before, const SubtreeWalk& after) {
    if (before.at_end() || after.at_end()) {
        return before.at_end() ? 1 : -1;
    }
    return before.key().compare(after.key());
}

}  // namespace

TreeDiff::TreeDiff(NodeReader& nodes, const TreeRoot& before, const TreeRoot& after)
    : before_(nodes, NodeView::Content::kEntries, before.node, before.count),
      after_(nodes, NodeView::Content::kEntries, after.node, after.count) {}

// Deals with subtrees until both stand at an element or at the end: false when they do.
//
// What has the lower key is only in its own tree up to the other's key, so it must be gone through. At the same key the higher one is
// opened: the other may be one of the nodes below it.
bool TreeDiff::skip_or_open() {
    const bool before = before_.at_subtree();
    const bool after = after_.at_subtree();
    if (!before && !after) {
        return false;
    }
    if (before && after && before_.subtree() == after_.subtree()) {
        before_.skip();
        after_.skip();
        return true;
    }
    const int order = order_of(before_, after_);
    SubtreeWalk& ahead = order < 0 || (order == 0 && level(before_) >= level(after_)) ? before_ : after_;
    if (!ahead.at_subtree()) {
        return false;  // an element of one tree alone
    }
    ahead.open();
    return true;
}

void TreeDiff::take(SubtreeWalk& walk, std::optional<Bytes>& value) {
    const auto bytes = walk.value();
    value.emplace(bytes.begin(), bytes.end());
    walk.skip();
}

bool TreeDiff::next(TreeChange& change) {
    while (true) {
        if (skip_or_open()) {
            continue;
        }
        if (before_.at_end() && after_.at_end()) {
            return false;
        }
        const int order = order_of(before_, after_);
        if (order == 0 && std::ranges::equal(before_.value(), after_.value())) {
            before_.skip();
            after_.skip();
            continue;
        }
        change.key = order <= 0 ? before_.key() : after_.key();
        change.before.reset();
        change.after.reset();
        if (order <= 0) {
            take(before_, change.before);
        }
        if (order >= 0) {
            take(after_, change.after);
        }
        return true;
    }
}

}  // namespace nodesnap
