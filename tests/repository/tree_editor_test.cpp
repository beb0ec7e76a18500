#include "snapshot/repository/tree_editor.h"

#include <gtest/gtest.h>

#include <map>

#include "snapshot/repository/node_format.h"
#include "tests/repository/node_store.h"
#include "tests/repository/tree_check.h"

namespace nodesnap::test {
namespace {

using Model = std::map<std::string, Bytes>;

TreeRoot build(NodeStore& store, const Model& model) {
    TreeBuilder builder(store.writer());
    for (const auto& [key, value] : model) {
        builder.add(key, value);
    }
    const TreeRoot root = builder.finish();
    store.finish_writing();
    return root;
}

Model read_all(NodeReader& nodes, const TreeRoot& root) {
    Model model;
    TreeCursor cursor(nodes, root);
    TreeEntry entry;
    while (cursor.next(entry)) {
        model[entry.key] = entry.value;
    }
    return model;
}

TreeShape check(NodeStore& store, const TreeRoot& root) {
    return check_tree(store.reader(), root.node, root.count, NodeView::Content::kEntries);
}

Model numbered(std::uint64_t count) {
    Model model;
    for (std::uint64_t i = 0; i < count; ++i) {
        model[key::inode(i * 10 + 10)] = Bytes(8, static_cast<std::byte>(i));
    }
    return model;
}

bool same(const TreeRoot& a, const TreeRoot& b) {
    return a.node == b.node && a.count == b.count;
}

// One batch of random edits, made to a tree and to the model of it.
class Batch {
public:
    Batch(Random& random, TreeEditor& editor, const Model& old, Model& model, std::uint64_t keys)
        : random_(random), editor_(editor), old_(old), model_(model), keys_(keys) {}

    // Near each other, or all over the tree.
    void run() {
        std::uint64_t at = random_.below(keys_);
        const std::uint64_t step = random_.chance(2) ? 4 : 1 + keys_ / 5;
        const std::uint64_t edits = 1 + random_.below(random_.chance(10) ? 60 : 8);
        for (std::uint64_t i = 0; i < edits && at < keys_; ++i, at += 1 + random_.below(step)) {
            if (random_.chance(5)) {
                at = erase(at);
            } else {
                put(at);
            }
        }
    }

private:
    Bytes value() { return Bytes(random_.below(30), static_cast<std::byte>(random_.below(256))); }

    void put(std::uint64_t at) {
        const std::string key = key::inode(at + 1);
        const auto found = old_.find(key);
        if (random_.chance(2)) {
            EXPECT_EQ(editor_.old_value(key), found == old_.end() ? std::nullopt : std::optional(found->second));
        }
        if (random_.chance(8)) {
            return;  // an old value that was only looked at
        }
        const Bytes put = found != old_.end() && random_.chance(3) ? found->second : value();
        editor_.put(key, put);
        model_[key] = put;
    }

    // A range, with some of what was in it put again.
    std::uint64_t erase(std::uint64_t at) {
        const std::uint64_t end = at + 1 + random_.below(random_.chance(8) ? keys_ : 12);
        editor_.erase(key::inode(at + 1), key::inode(end + 1));
        model_.erase(model_.lower_bound(key::inode(at + 1)), model_.lower_bound(key::inode(end + 1)));
        const std::uint64_t again = 1 + random_.below(4);
        std::uint64_t last = at;
        for (std::uint64_t i = at; i < end; i += random_.below(again) + 1) {
            const auto found = old_.find(key::inode(i + 1));
            if (found != old_.end() && again != 4) {
                editor_.put(found->first, found->second);
                model_[found->first] = found->second;
                last = i;
            }
        }
        return random_.chance(4) ? last + 1 : end;
    }

    Random& random_;
    TreeEditor& editor_;
    const Model& old_;
    Model& model_;
    std::uint64_t keys_;
};

// Many backups, each on the one before.
void edit_again_and_again(std::size_t entries_per_node, int rounds, std::uint64_t keys) {
    Random random;
    NodeStore store(entries_per_node);
    Model model;
    TreeRoot root;
    store.reopen();
    for (int round = 0; round < rounds; ++round) {
        const Model old = model;
        TreeEditor editor(store.reader(), root, store.writer());
        Batch(random, editor, old, model, keys).run();
        const TreeRoot next = editor.finish();
        store.finish_writing();
        const TreeEditor::Counts counts = editor.counts();
        ASSERT_EQ(read_all(store.reader(), next), model) << "round " << round;
        const TreeShape shape = check(store, next);
        ASSERT_EQ(next.count, model.size());
        ASSERT_EQ(old.size() + counts.added - counts.removed, model.size());
        std::uint64_t replaced = 0;
        for (const auto& [key, value] : model) {
            replaced += old.contains(key) && old.at(key) != value ? 1 : 0;
        }
        ASSERT_EQ(counts.replaced, replaced);
        if (model == old) {
            ASSERT_TRUE(same(next, root));
            ASSERT_EQ(counts.nodes_written, 0U);
        }
        // A leaf is a quarter full, unless it is its parent's only one; many rounds leave most of them more than half full.
        ASSERT_LE(shape.leaves * entries_per_node * 2, (model.size() + 4 * entries_per_node) * 5) << "round " << round;
        ASSERT_LE(shape.nodes, shape.leaves * 3 + 8) << "round " << round;
        root = next;
    }
}

TEST(TreeEditor, ManyRoundsOfEditsAreWhatTheModelSays) {
    edit_again_and_again(8, 1500, 1500);
}

TEST(TreeEditor, ManyRoundsOfEditsInNarrowNodes) {
    edit_again_and_again(3, 700, 250);
    edit_again_and_again(4, 700, 250);
    edit_again_and_again(5, 700, 40);
}

TEST(TreeEditor, ManyRoundsOfEditsInWideNodes) {
    edit_again_and_again(64, 300, 5000);
}

TEST(TreeEditor, NodesOfAnyWidthAreEdited) {
    Random random;
    NodeStore store;
    store.reopen();
    Model model;
    TreeRoot root;
    for (int round = 0; round < 150; ++round) {
        store.set_entries_per_node(2 + random.below(random.chance(2) ? 6 : 200));
        const Model old = model;
        TreeEditor editor(store.reader(), root, store.writer());
        Batch(random, editor, old, model, 2000).run();
        root = editor.finish();
        store.finish_writing();
        ASSERT_EQ(read_all(store.reader(), root), model) << "round " << round;
        check(store, root);
    }
}

TEST(TreeEditor, LongKeysAndValuesFillNodesByBytes) {
    Random random;
    NodeStore store;
    store.reopen();
    Model model;
    TreeRoot root;
    for (int round = 0; round < 60; ++round) {
        TreeEditor editor(store.reader(), root, store.writer());
        for (std::uint64_t at = random.below(50); at < 3000; at += 1 + random.below(400)) {
            std::string key = key::inode(at + 1);
            key.resize(random.chance(2) ? kKeyLimit : 20, 'k');
            if (key > (model.empty() ? "" : model.rbegin()->first) || random.chance(3)) {
                const Bytes value(random.below(kValueLimit + 1), static_cast<std::byte>(random.any()));
                editor.put(key, value);
                model[key] = value;
            } else {
                editor.erase(key, key::inode(at + 30));
                model.erase(model.lower_bound(key), model.lower_bound(key::inode(at + 30)));
            }
        }
        root = editor.finish();
        store.finish_writing();
        ASSERT_EQ(read_all(store.reader(), root), model) << "round " << round;
        const TreeShape shape = check(store, root);
        std::size_t bytes = 0;
        for (const auto& [key, value] : model) {
            bytes += key.size() + value.size() + 4;
        }
        ASSERT_LE(shape.leaves, bytes * 5 / kNodeContentLimit + 2) << "round " << round;
    }
}

class EditedTree : public ::testing::Test {
protected:
    static constexpr std::uint64_t kEntries = 10'000;  // 5 levels of 8
    NodeStore store{8};
    Model model = numbered(kEntries);
    TreeRoot root = build(store, model);
    TreeEditor editor{store.reader(), root, store.writer()};

    static std::string key_of(std::uint64_t i) { return key::inode(i * 10 + 10); }
    TreeRoot finish() {
        const TreeRoot next = editor.finish();
        store.finish_writing();
        EXPECT_EQ(read_all(store.reader(), next), model);
        check(store, next);
        return next;
    }
};

TEST_F(EditedTree, OneReplacedValueWritesOneNodePerLevelAndReadsNoOther) {
    const std::uint64_t before_search = store.target.reads;
    NodeStore& s = store;
    s.reopen();
    tree_find(s.reader(), root, key_of(5000));
    const std::uint64_t path_reads = s.target.reads - before_search;
    s.reopen();
    const std::uint64_t before = s.target.reads;
    TreeEditor fresh(s.reader(), root, s.writer());
    fresh.put(key_of(5000), Bytes(8, std::byte{0xaa}));
    const TreeRoot next = fresh.finish();
    EXPECT_EQ(s.target.reads - before, path_reads);
    EXPECT_EQ(fresh.counts().nodes_written, root.node->height + 1U);
    EXPECT_EQ(fresh.counts().replaced, 1U);
    EXPECT_EQ(next.node->height, root.node->height);
}

TEST_F(EditedTree, OneNewOrErasedKeySplitsOrMergesOneNodePerLevelAtMost) {
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{4567}, kEntries * 10 + 50}) {
        TreeEditor fresh(store.reader(), root, store.writer());
        fresh.put(key::inode(at + 1), {});
        fresh.finish();
        EXPECT_LE(fresh.counts().nodes_written, 2 * (root.node->height + 1U) + 1) << at;
        EXPECT_EQ(fresh.counts().added, 1U);
    }
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{4567}, kEntries - 1}) {
        TreeEditor fresh(store.reader(), root, store.writer());
        fresh.erase(key_of(at), key_of(at) + '\0');
        fresh.finish();
        EXPECT_EQ(fresh.counts().nodes_written, root.node->height + 1U) << at;
        EXPECT_EQ(fresh.counts().removed, 1U);
    }
}

TEST_F(EditedTree, NoEditsWriteNothing) {
    EXPECT_TRUE(same(finish(), root));
    EXPECT_EQ(editor.counts().nodes_written, 0U);
}

TEST_F(EditedTree, EverythingErasedAndPutAgainIsNoChange) {
    editor.erase(key_of(0), key_of(kEntries));
    for (const auto& [key, value] : model) {
        editor.put(key, value);
    }
    EXPECT_TRUE(same(finish(), root));
    EXPECT_EQ(editor.counts().nodes_written, 0U);
    EXPECT_EQ(editor.counts().removed, 0U);
}

TEST_F(EditedTree, EverythingErasedIsAnEmptyTree) {
    editor.erase(std::string(1, '\0'), std::string(9, '\xff'));
    model.clear();
    EXPECT_FALSE(finish().node);
    EXPECT_EQ(editor.counts().removed, kEntries);
    EXPECT_EQ(editor.counts().nodes_written, 0U);
}

TEST_F(EditedTree, AllButOneErasedIsALeaf) {
    editor.erase(key_of(0), key_of(777));
    editor.erase(key_of(778), key_of(kEntries));
    model = {{key_of(777), model[key_of(777)]}};
    EXPECT_EQ(finish().node->height, 0);
    EXPECT_EQ(editor.counts().removed, kEntries - 1);
}

TEST_F(EditedTree, ALargeErasedRangeIsNotRead) {
    store.reopen();
    const std::uint64_t before = store.target.reads;
    TreeEditor fresh(store.reader(), root, store.writer());
    fresh.erase(key_of(100), key_of(9900));
    const TreeRoot next = fresh.finish();
    EXPECT_LE(store.target.reads - before, 40U) << "of 1,400 nodes";
    EXPECT_EQ(next.count, 200U);
    EXPECT_EQ(fresh.counts().removed, 9800U);
}

TEST_F(EditedTree, NeighboursOfThinNodesAreTakenIn) {
    // Of each eight entries, seven go: but only from every second leaf, so that the others could be left where they are.
    for (std::uint64_t i = 0; i + 8 <= kEntries; i += 16) {
        editor.erase(key_of(i + 1), key_of(i + 8));
        model.erase(model.lower_bound(key_of(i + 1)), model.lower_bound(key_of(i + 8)));
    }
    const TreeShape shape = check(store, finish());
    EXPECT_LE(shape.leaves, kEntries / 8 * 3 / 4 + 1);
    EXPECT_GE(shape.smallest_leaf, 3U);
}

TEST_F(EditedTree, TheLastThinNodeOfAParentTakesInTheOneBeforeIt) {
    for (std::uint64_t i = 56; i + 8 <= kEntries; i += 64) {
        editor.erase(key_of(i + 1), key_of(i + 8));
        model.erase(model.lower_bound(key_of(i + 1)), model.lower_bound(key_of(i + 8)));
    }
    EXPECT_GE(check(store, finish()).smallest_leaf, 3U);
}

TEST_F(EditedTree, ATreeThatShrinksSlowlyDoesNotThinOut) {
    Random random;
    for (int round = 0; round < 300; ++round) {
        TreeEditor shrinking(store.reader(), root, store.writer());
        std::uint64_t at = 0;
        for (auto old = model.lower_bound(key_of(random.below(100))); old != model.end(); old = model.lower_bound(key_of(at))) {
            shrinking.erase(old->first, old->first + '\0');
            at = (key::parse(old->first).ino - 10) / 10 + 1 + random.below(400);
            model.erase(old);
        }
        root = shrinking.finish();
        store.finish_writing();
        const TreeShape shape = check(store, root);
        ASSERT_LE(shape.leaves * 8, root.count * 4 + 32) << "round " << round;
    }
    EXPECT_LT(model.size(), kEntries / 5);
    EXPECT_EQ(read_all(store.reader(), root), model);
}

TEST_F(EditedTree, EditsOutOfOrderAreAnError) {
    editor.put(key_of(10), {});
    EXPECT_THROW(editor.put(key_of(10), {}), Error);
    EXPECT_THROW(editor.put(key_of(9), {}), Error);
    EXPECT_THROW(editor.erase(key_of(9), key_of(20)), Error);
    EXPECT_THROW(editor.old_value(key_of(9)), Error);
    EXPECT_THROW(editor.put(key_of(20), Bytes(kValueLimit + 1)), Error);
}

TEST_F(EditedTree, DamageOfANodeOnThePathIsAnError) {
    // Every node but the root, which has the highest number.
    const auto pack = store.packs().get(layout::PackKind::kNodes, root.node->at.pack);
    Bytes& object = store.target.objects.begin()->second;
    for (std::uint32_t i = 0; i < root.node->at.number; ++i) {
        object[pack->index().segment(i).offset + 3] ^= std::byte{1};
        object[pack->index().segment(i).second_offset + 3] ^= std::byte{1};
    }
    store.reopen();
    const auto expect_damaged = [&](const auto& edit) {
        TreeEditor fresh(store.reader(), root, store.writer());
        try {
            edit(fresh);
            fresh.finish();
            FAIL() << "nothing was noticed";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        }
    };
    expect_damaged([](TreeEditor& fresh) { fresh.put(key_of(5000), {}); });
    expect_damaged([](TreeEditor& fresh) { fresh.old_value(key_of(5000)); });
    expect_damaged([](TreeEditor& fresh) { fresh.erase(key_of(100), key_of(200)); });
    expect_damaged([](TreeEditor& fresh) { fresh.put(key::inode(1), {}); });
    TreeEditor untouched(store.reader(), root, store.writer());
    EXPECT_TRUE(same(untouched.finish(), root));
}

TEST(HostileEditedTree, ALyingParentIsDamaged) {
    NodeStore store;
    EntryColumns first, second;
    first.add("a", {});
    first.add("d", {});
    second.add("c", {});
    ChildColumns parent;
    parent.add("a", {store.writer().put(first.encode()), 2});
    parent.add("c", {store.writer().put(second.encode()), 1});
    const TreeRoot root{NodeRef{store.writer().put(parent.encode(1)), 1}, 3};
    store.finish_writing();
    TreeEditor editor(store.reader(), root, store.writer());
    EXPECT_THROW(editor.put("b", {}), Error);
    // Not on the path of the edit, but taken in.
    TreeEditor merging(store.reader(), root, store.writer());
    merging.put("c", to_bytes("new"));
    EXPECT_THROW(merging.finish(), Error);
    EXPECT_THROW(TreeEditor(store.reader(), {root.node, 4}, store.writer()), Error);
}

TEST(TreeEditor, AStoredNodeWithOneChildDoesNotBecomeTheRoot) {
    NodeStore store;
    const auto parent_of_one = [&](const std::string& key) {
        EntryColumns leaf;
        leaf.add(key, {});
        ChildColumns parent;
        parent.add(key, {store.writer().put(leaf.encode()), 1});
        return store.writer().put(parent.encode(1));
    };
    ChildColumns top;
    top.add("a", {parent_of_one("a"), 1});
    top.add("c", {parent_of_one("c"), 1});
    const TreeRoot root{NodeRef{store.writer().put(top.encode(2)), 2}, 2};
    store.finish_writing();
    TreeEditor editor(store.reader(), root, store.writer());
    editor.erase("a", "b");
    const TreeRoot next = editor.finish();
    EXPECT_EQ(next.node->height, 0);
    EXPECT_EQ(editor.counts().nodes_written, 0U);
    EXPECT_EQ(read_all(store.reader(), next), (Model{{"c", {}}}));
}

TEST(TreeEditor, AnEmptyTreeGrows) {
    NodeStore store(4);
    store.reopen();
    TreeEditor editor(store.reader(), {}, store.writer());
    const Model model = numbered(100);
    for (const auto& [key, value] : model) {
        editor.put(key, value);
    }
    const TreeRoot root = editor.finish();
    store.finish_writing();
    EXPECT_EQ(read_all(store.reader(), root), model);
    EXPECT_EQ(editor.counts().added, 100U);
    TreeEditor nothing(store.reader(), {}, store.writer());
    nothing.erase("a", "b");
    EXPECT_FALSE(nothing.finish().node);
}

}  // namespace
}  // namespace nodesnap::test
