// Goes through a stored tree from left to right beside the edits that are made to it, and hands on what stays: single items where a leaf
// changes, subtrees as high as they can be where nothing does. Shared by TreeEditor and MapEditor.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/tree_splice.h"
#include "snapshot/repository/tree_walk.h"

namespace nodesnap {

// An item of a leaf as bounds see it. Bounds are keys; of a file map: offset_key().
inline bool begins_before(const EntryView& entry, std::string_view bound) {
    return entry.key < bound;
}
inline bool ends_before(const EntryView& entry, std::string_view bound) {
    return entry.key < bound;
}
inline bool begins_before(const Run& run, std::string_view bound) {
    return offset_key(run.offset) < bound;
}
inline bool ends_before(const Run& run, std::string_view bound) {
    return offset_key(run.end()) <= bound;
}

// Output: has add(item) and add(Subtree). Nothing is handed on before the first change(): a tree that doesn't change costs no output.
// Memory: one node per level, and the items of one leaf.
template <typename Columns, typename Output>
class TreeRewrite {
public:
    using Item = typename Columns::Item;

    TreeRewrite(NodeReader& nodes, Output& output) : nodes_(nodes), output_(output) {}

    // Begins with a stored tree, or with a leaf that is none of its own (it is never referred to).
    void begin(const NodeRef& root, std::uint64_t count) { push({{root.at, count}, root.height, {}, {}}); }
    void begin(std::shared_ptr<const VerifiedNode> leaf) { push_node(std::move(leaf), {}); }

    // Everything that ends before `bound` stays.
    void keep_to(std::string_view bound) { pass(bound, false); }
    // Everything that ends before `bound` is left out. Returns how many items that were.
    std::uint64_t drop_to(std::string_view bound) {
        const std::uint64_t before = dropped_;
        pass(bound, true);
        return dropped_ - before;
    }

    // The next item if it begins before `bound`, nullptr otherwise. It stays valid until the next call here, and may be replaced by
    // something smaller after change().
    Item* next_before(std::string_view bound) {
        while (!path_.empty()) {
            const Step& top = path_.back();
            if (top.next < top.size()) {
                if (top.is_leaf()) {
                    Item& item = items_[top.next];
                    return begins_before(item, bound) ? &item : nullptr;
                }
                if (top.node->view.key(top.next) >= bound) {
                    return nullptr;
                }
                descend();
            } else if (top.self.upper_bound.empty() || top.self.upper_bound >= bound) {
                return nullptr;
            } else {
                pop();
            }
        }
        return nullptr;
    }
    // The item that next_before() gave stays, or is left out.
    void keep_item() { keep_one(path_.back()); }
    void drop_item() {
        change();
        ++path_.back().next;
        ++dropped_;
    }

    // Something is about to be handed on here that wasn't in the tree, or won't be any more: what lies before it must be handed on first.
    void change() {
        changed_ = true;
        for (Step& step : path_) {
            if (step.changed) {
                continue;
            }
            step.changed = true;
            for (std::uint32_t i = 0; i < step.next; ++i) {
                hand_on(step, i);
            }
        }
    }
    bool changed() const { return changed_; }

    // The rest stays.
    void finish() {
        while (!path_.empty()) {
            pass_rest(false);
            pop();
        }
    }

private:
    struct Step {
        std::shared_ptr<const VerifiedNode> node;
        Subtree self;
        std::uint32_t next = 0;  // the item that is next; of an inner node, the child that is next or that the path goes through
        bool changed = false;    // then all before `next` has been handed on
        std::uint32_t size() const { return node->view.size(); }
        bool is_leaf() const { return node->view.height() == 0; }
    };

    void push(Subtree claim) {
        auto node = load_node(nodes_, claim, content_of<Columns>());
        push_node(std::move(node), std::move(claim));
    }
    void push_node(std::shared_ptr<const VerifiedNode> node, Subtree claim) {
        path_.push_back({std::move(node), std::move(claim)});
        if (path_.back().is_leaf()) {
            items_.clear();
            for_each_item<Columns>(path_.back().node->view, [this](const Item& item) { items_.push_back(item); });
        }
    }
    void descend() {
        const Step& top = path_.back();
        push(child_of(top.node->view, top.next, top.self.upper_bound));
    }
    // Leaves a node that was gone through to its end.
    void pop() {
        const bool changed = path_.back().changed;
        path_.pop_back();
        if (path_.empty()) {
            return;
        }
        if (changed) {
            ++path_.back().next;
        } else {
            keep_one(path_.back());
        }
    }

    void hand_on(const Step& step, std::uint32_t i) {
        if (step.is_leaf()) {
            output_.add(items_[i]);
        } else {
            output_.add(child_of(step.node->view, i, step.self.upper_bound));
        }
    }
    void keep_one(Step& step) {
        if (step.changed) {
            hand_on(step, step.next);
        }
        ++step.next;
    }
    void pass_one(bool drop) {
        if (!drop) {
            keep_one(path_.back());
            return;
        }
        change();
        Step& top = path_.back();
        dropped_ += top.is_leaf() ? 1 : top.node->view.child(top.next).count;
        ++top.next;
    }
    void pass_rest(bool drop) {
        while (path_.back().next < path_.back().size()) {
            pass_one(drop);
        }
    }
    // Whether the next item, or all below the next child, ends before `bound`, as far as this node tells.
    bool next_ends_before(const Step& top, std::string_view bound) const {
        if (top.is_leaf()) {
            return top.next < top.size() && ends_before(items_[top.next], bound);
        }
        return top.next + 1 < top.size() && top.node->view.key(top.next + 1) <= bound;
    }

    void pass(std::string_view bound, bool drop) {
        while (!path_.empty()) {
            const Step& top = path_.back();
            if (!top.self.upper_bound.empty() && top.self.upper_bound <= bound) {
                pass_rest(drop);
                pop();
                continue;
            }
            while (next_ends_before(top, bound)) {
                pass_one(drop);
            }
            if (top.is_leaf() || top.next == top.size() || top.node->view.key(top.next) >= bound) {
                return;
            }
            descend();
        }
    }

    NodeReader& nodes_;
    Output& output_;
    std::vector<Step> path_;
    std::vector<Item> items_;  // of the leaf at the path's end
    bool changed_ = false;
    std::uint64_t dropped_ = 0;
};

}  // namespace nodesnap
