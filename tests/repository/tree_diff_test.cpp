#include "snapshot/repository/tree_diff.h"

#include <gtest/gtest.h>

#include "tests/repository/sharing_builder.h"

namespace nodesnap::test {
namespace {

using Entries = std::map<std::string, Bytes>;
using Changes = std::map<std::string, std::pair<std::optional<Bytes>, std::optional<Bytes>>>;

Changes changes_of(NodeReader& nodes, const TreeRoot& before, const TreeRoot& after) {
    Changes changes;
    TreeDiff diff(nodes, before, after);
    TreeChange change;
    while (diff.next(change)) {
        EXPECT_TRUE(changes.empty() || changes.rbegin()->first < change.key);
        changes[change.key] = {change.before, change.after};
    }
    EXPECT_FALSE(diff.next(change));
    return changes;
}

Changes expected(const Entries& before, const Entries& after) {
    Changes changes;
    for (const auto& [key, value] : before) {
        const auto found = after.find(key);
        if (found == after.end()) {
            changes[key] = {value, std::nullopt};
        } else if (found->second != value) {
            changes[key] = {value, found->second};
        }
    }
    for (const auto& [key, value] : after) {
        if (!before.contains(key)) {
            changes[key] = {std::nullopt, value};
        }
    }
    return changes;
}

Bytes value_of(Random& random) {
    return Bytes(random.below(20), static_cast<std::byte>(random.any()));
}

Entries numbered(std::size_t count) {
    Entries entries;
    for (std::size_t i = 0; i < count; ++i) {
        entries[key::inode(10 * i)] = Bytes(3, static_cast<std::byte>(i));
    }
    return entries;
}

// Inserts, removes and changes single entries, and whole stretches of them.
Entries edited(Random& random, Entries entries) {
    for (std::uint64_t edits = random.below(6); edits != 0; --edits) {
        const std::string from = random.text(1 + random.below(2));
        switch (random.below(4)) {
            case 0:
                entries[random.text(1 + random.below(3))] = value_of(random);
                break;
            case 1:
                if (const auto at = entries.lower_bound(from); at != entries.end()) {
                    at->second = value_of(random);
                }
                break;
            case 2: {
                auto end = entries.lower_bound(from);
                for (std::uint64_t i = random.below(random.chance(3) ? 200 : 3); i != 0 && end != entries.end(); --i) {
                    ++end;
                }
                entries.erase(entries.lower_bound(from), end);
                break;
            }
            default:
                for (std::uint64_t i = random.below(random.chance(3) ? 200 : 3); i != 0; --i) {
                    entries[from + random.text(1 + random.below(3))] = value_of(random);
                }
        }
    }
    return entries;
}

TEST(TreeDiff, TellsWhatDiffersBetweenRandomTrees) {
    Random random;
    for (int round = 0; round < 400; ++round) {
        NodeStore store;
        // Another fan-out gives other heights and borders; the same one shares nodes.
        SharingBuilder builder(store, 2 + random.below(5));
        SharingBuilder other(store, 2 + random.below(20));
        Entries before;
        for (std::uint64_t i = random.below(random.chance(4) ? 3 : 500); i != 0; --i) {
            before[random.text(1 + random.below(3))] = value_of(random);
        }
        const Entries after = edited(random, before);
        const TreeRoot a = builder.tree(before);
        const TreeRoot b = random.chance(4) ? other.tree(after) : builder.tree(after);
        store.finish_writing();
        ASSERT_EQ(changes_of(store.reader(), a, b), expected(before, after)) << round;
        ASSERT_EQ(changes_of(store.reader(), b, a), expected(after, before)) << round;
        ASSERT_TRUE(changes_of(store.reader(), a, a).empty());
    }
}

TEST(TreeDiff, EmptyTreesHaveNothingInCommon) {
    NodeStore store;
    SharingBuilder builder(store, 4);
    const Entries entries = numbered(100);
    const TreeRoot root = builder.tree(entries);
    store.finish_writing();
    EXPECT_EQ(changes_of(store.reader(), root, {}), expected(entries, {}));
    EXPECT_EQ(changes_of(store.reader(), {}, root), expected({}, entries));
    EXPECT_TRUE(changes_of(store.reader(), {}, {}).empty());
}

TEST(TreeDiff, ReadsOnlyTheNodesAboveWhatDiffers) {
    NodeStore store;
    SharingBuilder builder(store, 4);
    Entries entries = numbered(20'000);
    const TreeRoot before = builder.tree(entries);
    entries[key::inode(100'000)] = Bytes(9, std::byte{1});
    entries.erase(key::inode(150'000));
    entries[key::inode(55'555)] = Bytes(9, std::byte{2});
    const TreeRoot after = builder.tree(entries);
    store.finish_writing();
    const std::size_t nodes = builder.nodes();
    ASSERT_GT(nodes, 4000U);
    const std::uint64_t reads = store.target.reads;
    EXPECT_EQ(changes_of(store.reader(), before, after).size(), 3U);
    EXPECT_LT(store.target.reads - reads, 150U);
}

TEST(TreeDiff, TheSameTreeIsNotReadAtAll) {
    NodeStore store;
    SharingBuilder builder(store, 4);
    const TreeRoot root = builder.tree(numbered(1000));
    store.finish_writing();
    const std::uint64_t reads = store.target.reads;
    EXPECT_TRUE(changes_of(store.reader(), root, root).empty());
    EXPECT_EQ(store.target.reads, reads);
}

TEST(TreeDiff, FindsASharedNodeAtAnotherHeight) {
    NodeStore store;
    SharingBuilder builder(store, 4);
    const TreeRoot low = builder.tree(numbered(5000));
    // The whole of one tree is the second child of the other's root.
    EntryColumns first, last;
    first.add(std::string("\0", 1), {});
    last.add("\xff", {});
    const SegmentRef first_leaf = store.writer().put(first.encode());
    const SegmentRef last_leaf = store.writer().put(last.encode());
    const auto lift = [&](std::string_view key, SegmentRef at) {
        for (std::uint8_t height = 1; height <= low.node->height; ++height) {
            ChildColumns columns;
            columns.add(key, {at, 1});
            at = store.writer().put(columns.encode(height));
        }
        return at;
    };
    ChildColumns top;
    top.add(std::string("\0", 1), {lift(std::string("\0", 1), first_leaf), 1});
    top.add(key::inode(0), {low.node->at, low.count});
    top.add("\xff", {lift("\xff", last_leaf), 1});
    const auto height = static_cast<std::uint8_t>(low.node->height + 1);
    const TreeRoot high{NodeRef{store.writer().put(top.encode(height)), height}, low.count + 2};
    store.finish_writing();
    const std::uint64_t reads = store.target.reads;
    const Changes changes = changes_of(store.reader(), low, high);
    EXPECT_EQ(changes.size(), 2U);
    EXPECT_TRUE(changes.contains("\xff"));
    EXPECT_EQ(changes_of(store.reader(), high, low).size(), 2U);
    EXPECT_LT(store.target.reads - reads, 60U);
}

TEST(TreeDiff, ATreeThatLiesIsDamaged) {
    NodeStore store;
    EntryColumns leaf;
    leaf.add("b", {});
    const SegmentRef at = store.writer().put(leaf.encode());
    ChildColumns wrong, right;
    wrong.add("a", {at, 1});
    right.add("b", {at, 1});
    const TreeRoot lying{NodeRef{store.writer().put(wrong.encode(1)), 1}, 1};
    const TreeRoot sound{NodeRef{store.writer().put(right.encode(1)), 1}, 1};
    store.finish_writing();
    EXPECT_THROW(changes_of(store.reader(), lying, {}), Error);
    EXPECT_EQ(changes_of(store.reader(), sound, {}).size(), 1U);
}

}  // namespace
}  // namespace nodesnap::test
