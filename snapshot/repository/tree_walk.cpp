#include "snapshot/repository/tree_walk.h"

#include "platform/error.h"

namespace nodesnap {
namespace {

// The last child whose first key isn't above `key`; 0 if all are.
std::uint32_t child_for(const NodeView& node, std::string_view key) {
    std::uint32_t low = 0;
    std::uint32_t high = node.size();
    while (high - low > 1) {
        const std::uint32_t middle = low + (high - low) / 2;
        (node.key(middle) <= key ? low : high) = middle;
    }
    return low;
}

std::string first_key(const NodeView& node) {
    return node.content() == NodeView::Content::kRuns ? offset_key(node.first_offset()) : std::string(node.key(0));
}

bool below(const NodeView& node, std::string_view upper_bound) {
    if (upper_bound.empty()) {
        return true;
    }
    if (node.content() == NodeView::Content::kRuns) {
        return offset_key(node.runs_end()) <= upper_bound;
    }
    return node.key(node.size() - 1) < upper_bound;
}

}  // namespace

void TreeWalk::damaged(const SegmentRef& at, const char* what) const {
    throw Error::damaged("node " + std::to_string(at.number) + " of metadata pack " + at.pack.hex(), what);
}

void TreeWalk::push(const SegmentRef& at, std::uint8_t height, std::uint64_t count, std::string_view key, std::string upper_bound) {
    Step step;
    step.node = nodes_.get_verified(at);
    const NodeView& view = step.node->view;
    if (view.height() != height || (height == 0 && view.content() != leaf_content_)) {
        damaged(at, "its height or content isn't what its parent says");
    }
    if (view.total() != count || (!key.empty() && first_key(view) != key) || !below(view, upper_bound)) {
        damaged(at, "its entries aren't what its parent says");
    }
    step.upper_bound = std::move(upper_bound);
    path_.push_back(std::move(step));
}

void TreeWalk::push_child() {
    const Step& parent = path_.back();
    const std::uint32_t i = parent.child;
    const NodeChild child = parent.node->view.child(i);
    std::string bound = i + 1 < parent.node->view.size() ? std::string(parent.node->view.key(i + 1)) : parent.upper_bound;
    const std::string key(parent.node->view.key(i));
    push(child.at, static_cast<std::uint8_t>(parent.node->view.height() - 1), child.count, key, std::move(bound));
}

void TreeWalk::descend(std::string_view key) {
    while (path_.back().node->view.height() != 0) {
        path_.back().child = child_for(path_.back().node->view, key);
        push_child();
    }
}

bool TreeWalk::seek(std::string_view key) {
    path_.clear();
    if (!root_) {
        return false;
    }
    push(root_->at, root_->height, count_, {}, {});
    descend(key);
    return true;
}

bool TreeWalk::next() {
    if (!path_.empty()) {
        path_.pop_back();  // the leaf
    }
    while (!path_.empty() && path_.back().child + 1 == path_.back().node->view.size()) {
        path_.pop_back();
    }
    if (path_.empty()) {
        return false;
    }
    ++path_.back().child;
    push_child();
    descend({});
    return true;
}

}  // namespace nodesnap
