// Puts a tree together from left to right: from single items, and from subtrees that are stored already and are referred to where they
// are. All writers of trees share it.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "platform/error.h"
#include "snapshot/repository/node_filler.h"
#include "snapshot/repository/tree_walk.h"

namespace nodesnap {

template <typename Columns>
constexpr NodeView::Content content_of() {
    return std::is_same_v<Columns, EntryColumns> ? NodeView::Content::kEntries : NodeView::Content::kRuns;
}

// Columns: what leaves hold. Items and subtrees must come in ascending order; nothing here checks it.
//
// A subtree of height h ends the nodes of height h and less that are being filled. One of these that would be under a quarter full takes
// in the content of the stored neighbour under the same parent, on the right where that comes next, otherwise on the left: so trees don't
// thin out, however often they are edited. What is taken in is read, so that a damaged neighbour is an Error::damaged.
// Memory: two nodes per level, and one that is read.
template <typename Columns>
class TreeSplice {
public:
    using Item = typename Columns::Item;

    // `stored`: where subtrees come from; may be null if none will come.
    TreeSplice(NodeWriter& nodes, NodeReader* stored)
        : nodes_(nodes), stored_(stored), leaf_(nodes.entries_per_node(), [this](const Columns& leaf) {
              add_written({{put(leaf.encode()), leaf.total()}, 0, leaf.first_key(), {}});
          }) {}
    TreeSplice(const TreeSplice&) = delete;
    TreeSplice& operator=(const TreeSplice&) = delete;

    void add(const Item& item) { leaf_.add(item); }

    void add(const Subtree& subtree) {
        const std::size_t height = subtree.height;
        if (thin(height)) {
            const auto node = load(subtree);
            if (height == 0) {
                for_each_item<Columns>(node->view, [this](const Item& item) { leaf_.add(item); });
            }
            for (std::uint32_t i = 0; height != 0 && i < node->view.size(); ++i) {
                add(child_of(node->view, i, subtree.upper_bound));
            }
            return;
        }
        for (std::size_t below = height; below-- > 0;) {
            take_in_left(below);
        }
        for (std::size_t closed = 0; closed <= height; ++closed) {
            close(closed);
        }
        Level& parent = level(height);
        parent.children.add({subtree.key, subtree.child});
        parent.last_stored = subtree;
    }

    // Every item below a stored subtree.
    template <typename Each>
    void for_each_below(const Subtree& subtree, const Each& each) const {
        const auto node = load(subtree);
        if (subtree.height == 0) {
            for_each_item<Columns>(node->view, each);
        }
        for (std::uint32_t i = 0; subtree.height != 0 && i < node->view.size(); ++i) {
            for_each_below(child_of(node->view, i, subtree.upper_bound), each);
        }
    }

    // Writes what is open, and returns the root: none if nothing was added.
    TreeRoot finish() {
        for (std::size_t height = levels_.size(); height-- > 0;) {
            take_in_left(height);
        }
        close(0);
        for (std::size_t height = 0; height < levels_.size(); ++height) {
            if (levels_[height].children.size() == 1 && empty_above(height)) {
                return collapsed(only_child(height));
            }
            close(height + 1);
        }
        return {};
    }

    std::uint64_t nodes_written() const { return written_; }

private:
    // Where nodes of height `h` are filled: leaf_ for 0, otherwise levels_[h - 1].
    struct Level {
        NodeFiller<ChildColumns> children;
        std::optional<Subtree> last_stored;  // the last child, if it was stored before
    };

    SegmentRef put(const Bytes& node) {
        ++written_;
        return nodes_.put(node);
    }

    std::shared_ptr<const VerifiedNode> load(const Subtree& subtree) const {
        if (stored_ == nullptr) {
            throw Error::failed("internal error: a metadata tree has no place to read from", "please report this");
        }
        return load_node(*stored_, subtree, content_of<Columns>());
    }

    Level& level(std::size_t child_height) {
        while (levels_.size() <= child_height) {
            const std::size_t height = levels_.size() + 1;
            if (height == kHeightLimit) {
                throw Error::failed("internal error: a metadata tree is too high", "please report this");
            }
            levels_.push_back({NodeFiller<ChildColumns>(nodes_.entries_per_node(),
                                                        [this, height](const ChildColumns& node) {
                                                            const auto own = static_cast<std::uint8_t>(height);
                                                            add_written({{put(node.encode(own)), node.total()}, own, node.first_key(), {}});
                                                        }),
                               std::nullopt});
        }
        return levels_[child_height];
    }

    void add_written(const Subtree& subtree) {
        Level& parent = level(subtree.height);
        parent.children.add({subtree.key, subtree.child});
        parent.last_stored.reset();
    }

    // Whether the node of that height that is being filled would be thin if it ended here.
    bool thin(std::size_t height) const {
        if (height == 0) {
            return leaf_.thin();
        }
        const bool open = open_below(height);
        return height <= levels_.size() ? levels_[height - 1].children.thin(open ? 1 : 0) : open;
    }

    bool open_below(std::size_t height) const {
        bool open = leaf_.size() != 0;
        for (std::size_t below = 1; below < height && below <= levels_.size(); ++below) {
            open = open || levels_[below - 1].children.size() != 0;
        }
        return open;
    }

    bool empty_above(std::size_t child_height) const {
        bool empty = true;
        for (std::size_t above = child_height + 1; above < levels_.size(); ++above) {
            empty = empty && levels_[above].children.size() == 0;
        }
        return empty;
    }

    // Puts the content of the stored node before the thin one of height `height` in front of what that one holds.
    void take_in_left(std::size_t height) {
        if (!thin(height) || height >= levels_.size() || !levels_[height].last_stored) {
            return;
        }
        const Subtree left = *std::exchange(levels_[height].last_stored, std::nullopt);
        const auto node = load(left);
        drop_last_child(height);
        if (height == 0) {
            prepend(leaf_, node->view);
        } else if (!prepend(levels_[height - 1].children, node->view)) {
            levels_[height - 1].last_stored = child_of(node->view, node->view.size() - 1, left.upper_bound);
        }
    }

    // Whether the filler held anything.
    template <typename NodeColumns>
    static bool prepend(NodeFiller<NodeColumns>& filler, const NodeView& content) {
        const NodeColumns own = filler.take_open();
        for_each_item<NodeColumns>(content, [&](const auto& item) { filler.add(item); });
        own.for_each([&](const auto& item) { filler.add(item); });
        return own.size() != 0;
    }

    void drop_last_child(std::size_t child_height) {
        NodeFiller<ChildColumns>& children = levels_[child_height].children;
        const ChildColumns before = children.take_open();
        std::size_t left = before.size() - 1;
        before.for_each([&](const ChildView& child) {
            if (left != 0) {
                --left;
                children.add(child);
            }
        });
    }

    void close(std::size_t height) {
        if (height == 0) {
            leaf_.close();
        } else if (height <= levels_.size()) {
            levels_[height - 1].children.close();
            levels_[height - 1].last_stored.reset();
        }
    }

    Subtree only_child(std::size_t child_height) const {
        Subtree only{{}, static_cast<std::uint8_t>(child_height), {}, {}};
        levels_[child_height].children.for_each([&](const ChildView& child) { only.child = child.child; });
        return levels_[child_height].last_stored.value_or(only);
    }

    // A stored node may have a single child: it isn't needed as a root.
    TreeRoot collapsed(Subtree root) const {
        while (!root.key.empty() && root.height != 0) {
            const auto node = load(root);
            if (node->view.size() != 1) {
                break;
            }
            root = child_of(node->view, 0, root.upper_bound);
        }
        return {NodeRef{root.child.at, root.height}, root.child.count};
    }

    NodeWriter& nodes_;
    NodeReader* stored_;
    NodeFiller<Columns> leaf_;
    std::deque<Level> levels_;  // stay where they are while others are added above
    std::uint64_t written_ = 0;
};

}  // namespace nodesnap
