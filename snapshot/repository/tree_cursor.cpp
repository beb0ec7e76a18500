#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_walk.h"

namespace nodesnap {
namespace {

// The first entry whose key isn't below `key`; size() if there is none.
std::uint32_t lower_bound(const NodeView& leaf, std::string_view key) {
    std::uint32_t low = 0;
    std::uint32_t high = leaf.size();
    while (low < high) {
        const std::uint32_t middle = low + (high - low) / 2;
        if (leaf.key(middle) < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace

struct TreeCursor::Impl {
    Impl(NodeReader& nodes, const TreeRoot& root, std::string_view from_)
        : walk(nodes, NodeView::Content::kEntries, root.node, root.count), from(from_) {}
    TreeWalk walk;
    std::string from;
    bool started = false;
    bool in_leaf = false;
    std::uint32_t i = 0;
};

TreeCursor::TreeCursor(NodeReader& nodes, const TreeRoot& root, std::string_view from) : impl_(std::make_unique<Impl>(nodes, root, from)) {}
TreeCursor::~TreeCursor() = default;
TreeCursor::TreeCursor(TreeCursor&&) noexcept = default;

bool TreeCursor::next(TreeEntry& entry) {
    Impl& impl = *impl_;
    if (!impl.started) {
        impl.started = true;
        impl.in_leaf = impl.walk.seek(impl.from);
        impl.i = impl.in_leaf ? lower_bound(impl.walk.leaf(), impl.from) : 0;
    }
    while (impl.in_leaf && impl.i == impl.walk.leaf().size()) {
        impl.in_leaf = impl.walk.next();
        impl.i = 0;
    }
    if (!impl.in_leaf) {
        return false;
    }
    const NodeView& leaf = impl.walk.leaf();
    const auto value = leaf.value(impl.i);
    entry.key.assign(leaf.key(impl.i));
    entry.value.assign(value.begin(), value.end());
    ++impl.i;
    return true;
}

std::optional<Bytes> tree_find(NodeReader& nodes, const TreeRoot& root, std::string_view key) {
    TreeWalk walk(nodes, NodeView::Content::kEntries, root.node, root.count);
    if (!walk.seek(key)) {
        return std::nullopt;
    }
    const NodeView& leaf = walk.leaf();
    const std::uint32_t i = lower_bound(leaf, key);
    if (i == leaf.size() || leaf.key(i) != key) {
        return std::nullopt;
    }
    const auto value = leaf.value(i);
    return Bytes(value.begin(), value.end());
}

}  // namespace nodesnap
