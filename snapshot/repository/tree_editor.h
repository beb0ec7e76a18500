// Editing the tree of names and inodes copy-on-write: a new tree is written from an old one, of which only the leaves that changed and the
// nodes above them are new.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "snapshot/repository/tree.h"

namespace nodesnap {

// Edits come in ascending order of keys; asserts the order. What differs in the end counts, not what was called: erasing entries and
// putting the same ones again changes nothing, and without a change nothing is written and the old root comes back. Nodes between edits
// aren't read; those that are read are proved, and a damaged one is an Error::damaged, after which the editor can't be used any more.
// A new node that would be under a quarter full takes in a neighbour, so that trees don't thin out over the backups.
// One thread. Memory: three nodes per level.
class TreeEditor {
public:
    // `nodes` may have another limit of entries than the old tree was written with. Both must outlive this.
    TreeEditor(NodeReader& old_nodes, const TreeRoot& old, NodeWriter& nodes);
    ~TreeEditor();

    // New, or instead of the old value. Keys strictly ascend.
    void put(std::string_view key, std::span<const std::byte> value);
    // Takes out all old entries with keys in [first, end). `first` isn't below any key named before; puts of keys in the range may follow.
    void erase(std::string_view first, std::string_view end);
    // What the old tree holds under `key`, also if it is in an erased range. The next edit isn't below `key`. Costs no more than the put
    // that follows.
    std::optional<Bytes> old_value(std::string_view key);

    // Call once, last.
    TreeRoot finish();

    struct Counts {
        std::uint64_t added = 0, removed = 0, replaced = 0;  // entries
        std::uint64_t nodes_written = 0;
    };
    Counts counts() const;  // complete after finish()

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nodesnap
