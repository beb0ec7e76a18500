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

[[noreturn]] void damaged(const SegmentRef& at, const char* what) {
    throw Error::damaged("node " + std::to_string(at.number) + " of metadata pack " + at.pack.hex(), what);
}

}  // namespace

std::shared_ptr<const VerifiedNode> load_node(NodeReader& nodes, const Subtree& claim, NodeView::Content leaf_content) {
    auto node = nodes.get_verified(claim.child.at);
    const NodeView& view = node->view;
    if (view.height() != claim.height || (claim.height == 0 && view.content() != leaf_content)) {
        damaged(claim.child.at, "its height or content isn't what its parent says");
    }
    if (view.total() != claim.child.count || (!claim.key.empty() && first_key(view) != claim.key) || !below(view, claim.upper_bound)) {
        damaged(claim.child.at, "its entries aren't what its parent says");
    }
    return node;
}

Subtree child_of(const NodeView& parent, std::uint32_t i, const std::string& upper_bound) {
    return {parent.child(i), static_cast<std::uint8_t>(parent.height() - 1), std::string(parent.key(i)),
            i + 1 < parent.size() ? std::string(parent.key(i + 1)) : upper_bound};
}

void TreeWalk::push(Subtree claim) {
    Step step;
    step.node = load_node(nodes_, claim, leaf_content_);
    step.upper_bound = std::move(claim.upper_bound);
    path_.push_back(std::move(step));
}

void TreeWalk::push_child() {
    const Step& parent = path_.back();
    push(child_of(parent.node->view, parent.child, parent.upper_bound));
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
    push({{root_->at, count_}, root_->height, {}, {}});
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

SubtreeWalk::SubtreeWalk(NodeReader& nodes, NodeView::Content leaf_content, const std::optional<NodeRef>& root, std::uint64_t count)
    : nodes_(nodes), leaf_content_(leaf_content) {
    if (root) {
        unread_ = Subtree{{root->at, count}, root->height, {}, {}};
    }
}

std::string_view SubtreeWalk::key() const {
    return unread_ ? std::string_view(unread_->key) : top().node->view.key(top().index);
}

void SubtreeWalk::open() {
    if (opened_) {
        opened_(unread_->child.at);
    }
    Step step;
    step.node = load_node(nodes_, *unread_, leaf_content_);
    step.upper_bound = std::move(unread_->upper_bound);
    path_.push_back(std::move(step));
    run_ = {};
    arrive();
}

void SubtreeWalk::skip() {
    if (path_.empty()) {
        unread_.reset();
        return;
    }
    ++path_.back().index;
    while (path_.back().index == path_.back().node->view.size()) {
        path_.pop_back();
        if (path_.empty()) {
            unread_.reset();
            return;
        }
        ++path_.back().index;
    }
    arrive();
}

// Takes what the top's index points to.
void SubtreeWalk::arrive() {
    const NodeView& view = top().node->view;
    if (view.height() != 0) {
        unread_ = child_of(view, top().index, top().upper_bound);
        return;
    }
    unread_.reset();
    if (view.content() == NodeView::Content::kRuns) {
        run_ = view.run(top().index, top().index == 0 ? view.first_offset() : run_.end());
    }
}

}  // namespace nodesnap
