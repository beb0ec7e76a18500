#include "platform/error.h"
#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_levels.h"

namespace nodesnap {
namespace {

[[noreturn]] void misused(const char* what) {
    throw Error::failed(std::string("internal error: ") + what, "please report this");
}

}  // namespace

// ---- Inner levels

void TreeLevels::add(std::size_t child_height, std::string_view key, const NodeChild& child) {
    if (levels_.size() == child_height) {
        if (child_height + 1 == kHeightLimit) {
            misused("a metadata tree is too high");
        }
        levels_.emplace_back(nodes_.entries_per_node());
    }
    if (!levels_[child_height].add(key, child)) {
        flush(child_height);
        levels_[child_height].add(key, child);
    }
}

void TreeLevels::flush(std::size_t child_height) {
    const SegmentRef at = nodes_.put(levels_[child_height].encode(static_cast<std::uint8_t>(child_height + 1)));
    const std::string key = levels_[child_height].first_key();
    const NodeChild node{at, levels_[child_height].total()};
    levels_[child_height].clear();
    add(child_height + 1, key, node);
}

NodeRef TreeLevels::finish() {
    for (std::size_t height = 0; height < levels_.size(); ++height) {
        if (height + 1 == levels_.size() && levels_[height].size() == 1) {
            return {levels_[height].only(), static_cast<std::uint8_t>(height)};
        }
        if (levels_[height].size() != 0) {
            flush(height);
        }
    }
    misused("a metadata tree has no leaf");
}

// ---- Names and inodes

struct TreeBuilder::Impl {
    explicit Impl(NodeWriter& nodes_) : nodes(nodes_), levels(nodes_), leaf(nodes_.entries_per_node()) {}

    void flush() {
        levels.add_leaf(leaf.first_key(), {nodes.put(leaf.encode()), leaf.size()});
        leaf.clear();
    }

    NodeWriter& nodes;
    TreeLevels levels;
    EntryColumns leaf;
    std::string last_key;
    std::uint64_t count = 0;
};

TreeBuilder::TreeBuilder(NodeWriter& nodes) : impl_(std::make_unique<Impl>(nodes)) {}

TreeBuilder::~TreeBuilder() = default;

void TreeBuilder::add(std::string_view key, std::span<const std::byte> value) {
    Impl& impl = *impl_;
    if (key.empty() || key.size() > kKeyLimit || value.size() > kValueLimit || (impl.count != 0 && key <= impl.last_key)) {
        misused("a metadata tree's entries are too long or out of order");
    }
    if (!impl.leaf.add(key, value)) {
        impl.flush();
        impl.leaf.add(key, value);
    }
    impl.last_key.assign(key);
    ++impl.count;
}

TreeRoot TreeBuilder::finish() {
    Impl& impl = *impl_;
    if (impl.count == 0) {
        return {};
    }
    if (impl.leaf.size() != 0) {
        impl.flush();
    }
    return {impl.levels.finish(), impl.count};
}

}  // namespace nodesnap
