#include "snapshot/repository/tree.h"

#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "snapshot/repository/node_format.h"
#include "tests/repository/node_store.h"

namespace nodesnap::test {
namespace {

std::string numbered_key(std::uint64_t i) {
    return key::inode(i + 1);
}

TreeRoot build(NodeStore& store, const std::map<std::string, Bytes>& entries) {
    TreeBuilder builder(store.writer());
    for (const auto& [key, value] : entries) {
        builder.add(key, value);
    }
    const TreeRoot root = builder.finish();
    store.finish_writing();
    return root;
}

std::map<std::string, Bytes> read_all(NodeReader& nodes, const TreeRoot& root, std::string_view from = {}) {
    std::map<std::string, Bytes> entries;
    TreeCursor cursor(nodes, root, from);
    TreeEntry entry;
    while (cursor.next(entry)) {
        EXPECT_TRUE(entries.empty() || entries.rbegin()->first < entry.key);
        entries[entry.key] = entry.value;
    }
    EXPECT_FALSE(cursor.next(entry));
    return entries;
}

std::map<std::string, Bytes> random_entries(Random& random, std::size_t count) {
    std::map<std::string, Bytes> entries;
    while (entries.size() < count) {
        const std::size_t length = random.chance(50) ? random.below(kValueLimit + 1) : random.below(300);
        entries[random.text(1 + random.below(random.chance(10) ? kKeyLimit : 20))] = Bytes(length, static_cast<std::byte>(random.any()));
    }
    return entries;
}

Throttle::Clock::time_point still() {
    return Throttle::Clock::time_point(std::chrono::hours(1));
}

TEST(Tree, WritesAreBookedUnderTheCap) {
    MemoryTarget target;
    Throttle throttle(1'000'000, &still);
    NodeWriter nodes(
        target, sample_uuid(), Hasher(kSampleSeed), [] { return sample_pack(0); }, kEntriesPerNodeLimit, &throttle);
    Random random;
    const std::string node = random.text(60'000);
    nodes.put(as_bytes(node));
    nodes.finish();
    ASSERT_GT(nodes.stored_bytes(), 120'000U);
    EXPECT_EQ(throttle.reserve(0), std::chrono::microseconds(nodes.stored_bytes()) - std::chrono::milliseconds(100));
}

TEST(Tree, AnEmptyOneHasNoRoot) {
    NodeStore store;
    const TreeRoot root = build(store, {});
    EXPECT_FALSE(root.node);
    EXPECT_EQ(root.count, 0U);
    EXPECT_TRUE(store.target.objects.empty());
    EXPECT_TRUE(read_all(store.reader(), root).empty());
    EXPECT_FALSE(tree_find(store.reader(), root, "a"));
}

TEST(Tree, RandomEntriesComeBackInOrderFromAnyKeyOn) {
    Random random;
    for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{300}, std::size_t{20'000}}) {
        NodeStore store;
        const auto entries = random_entries(random, count);
        const TreeRoot root = build(store, entries);
        EXPECT_EQ(root.count, count);
        EXPECT_EQ(read_all(store.reader(), root), entries);
        for (int i = 0; i < 20; ++i) {
            auto from = entries.begin();
            std::advance(from, static_cast<std::ptrdiff_t>(random.below(count)));
            const std::string key = random.chance(2) ? from->first : random.text(1 + random.below(5));
            EXPECT_EQ(read_all(store.reader(), root, key), (std::map<std::string, Bytes>(entries.lower_bound(key), entries.end())));
            EXPECT_EQ(tree_find(store.reader(), root, from->first), from->second);
            EXPECT_EQ(tree_find(store.reader(), root, key).has_value(), entries.contains(key));
        }
    }
}

TEST(Tree, LongKeysMakeManyLevels) {
    NodeStore store;
    std::map<std::string, Bytes> entries;
    for (std::uint32_t i = 0; i < 2000; ++i) {
        std::string key = numbered_key(i);
        key.resize(kKeyLimit, 'k');
        entries[key] = Bytes(kValueLimit, std::byte{1});
    }
    const TreeRoot root = build(store, entries);
    EXPECT_GE(root.node->height, 2);
    EXPECT_EQ(read_all(store.reader(), root), entries);
}

TEST(Tree, WrongOrderIsAnError) {
    NodeStore store;
    TreeBuilder builder(store.writer());
    builder.add("b", {});
    EXPECT_THROW(builder.add("b", {}), Error);
    EXPECT_THROW(builder.add("a", {}), Error);
    EXPECT_THROW(builder.add("", {}), Error);
    EXPECT_THROW(builder.add(std::string(kKeyLimit + 1, 'x'), {}), Error);
    EXPECT_THROW(builder.add("c", Bytes(kValueLimit + 1)), Error);
}

TEST(Tree, NodesFillSeveralPacksWhenThereAreMany) {
    NodeStore store;
    Random random;
    NodeWriter& writer = store.writer();
    std::vector<std::pair<SegmentRef, std::string>> nodes;
    for (int i = 0; i < 600; ++i) {
        const std::string key = random.text(100);
        EntryColumns leaf;
        leaf.add(key, to_bytes(random.text(kValueLimit)));
        for (int j = 0; j < 6; ++j) {
            leaf.add(key + std::string(1, static_cast<char>(j + 1)), to_bytes(random.text(kValueLimit)));
        }
        nodes.emplace_back(writer.put(leaf.encode()), key);
    }
    store.finish_writing();
    EXPECT_EQ(writer.packs().size(), 3U);
    EXPECT_EQ(store.target.objects.size(), 3U);
    std::uint64_t stored = 0;
    for (const auto& [name, object] : store.target.objects) {
        EXPECT_LE(object.size(), 33U << 20);
        stored += object.size();
    }
    EXPECT_EQ(writer.stored_bytes(), stored);
    for (const auto& [at, key] : nodes) {
        const auto view = NodeView::parse(*store.reader().get(at));
        ASSERT_TRUE(view);
        EXPECT_EQ(view.value->key(0), key);
    }
}

TEST(NodeReader, AnyFlippedBitInOneCopyIsReportedAndCostsNothing) {
    NodeStore store;
    Random random;
    const auto entries = random_entries(random, 40);
    const TreeRoot root = build(store, entries);
    auto& [name, object] = *store.target.objects.begin();
    Damages ignored;
    const auto pack = PackReader::open(store.target, sample_uuid(), layout::PackKind::kNodes, root.node->at.pack, ignored.sink());
    const Segment segment = pack->index().segment(root.node->at.number);
    for (const std::uint64_t offset : {segment.offset, segment.second_offset}) {
        for (std::size_t i = 0; i < segment.stored_length; i += 1 + random.below(20)) {
            const auto bit = static_cast<std::byte>(1U << random.below(8));
            object[offset + i] ^= bit;
            store.damages.list.clear();
            store.reopen();
            EXPECT_NE(store.reader().get_all_copies(root.node->at), nullptr);
            ASSERT_EQ(store.damages.list.size(), 1U);
            EXPECT_TRUE(store.damages.list[0].healed);
            EXPECT_EQ(store.damages.list[0].object, name);
            EXPECT_EQ(read_all(store.reader(), root), entries);
            object[offset + i] ^= bit;
        }
    }
}

TEST(NodeReader, BothCopiesDamagedIsAnError) {
    NodeStore store;
    Random random;
    const TreeRoot root = build(store, random_entries(random, 40));
    Bytes& object = store.target.objects.begin()->second;
    const auto pack = store.packs().get(layout::PackKind::kNodes, root.node->at.pack);
    const Segment segment = pack->index().segment(root.node->at.number);
    object[segment.offset + 5] ^= std::byte{1};
    object[segment.second_offset + 9] ^= std::byte{1};
    EXPECT_THROW(
        {
            try {
                store.reader().get(root.node->at);
            } catch (const Error& error) {
                EXPECT_EQ(error.status(), ExitStatus::kDamaged);
                throw;
            }
        },
        Error);
    EXPECT_EQ(store.damages.list.size(), 2U);
    EXPECT_FALSE(store.damages.list[0].healed);
}

TEST(NodeReader, OneUnreadableSectorAnywhereCostsNothing) {
    NodeStore store;
    Random random;
    const auto entries = random_entries(random, 400);
    const TreeRoot root = build(store, entries);
    const auto& [name, object] = *store.target.objects.begin();
    for (std::uint64_t block = 0; block < object.size(); block += 4096) {
        store.target.bad_sectors = {{name, block}};
        store.reopen();
        ASSERT_EQ(read_all(store.reader(), root), entries) << block;
    }
}

TEST(NodeReader, MissingNodesAreDamaged) {
    NodeStore store;
    Random random;
    const TreeRoot root = build(store, random_entries(random, 10));
    EXPECT_THROW(store.reader().get({root.node->at.pack, 1}), Error);
    EXPECT_THROW(store.reader().get({sample_pack(99), 0}), Error);
}

TEST(NodeReader, ServesManyThreads) {
    NodeStore store;
    Random random;
    const auto entries = random_entries(random, 5000);
    const TreeRoot root = build(store, entries);
    store.reopen(256U << 10);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] { EXPECT_EQ(read_all(store.reader(), root), entries); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST(NodeReader, KeepsWhatWasReadWithinItsBudget) {
    NodeStore store;
    Random random;
    const TreeRoot root = build(store, random_entries(random, 40));
    store.reader().get(root.node->at);
    const std::uint64_t reads = store.target.reads;
    store.reader().get(root.node->at);
    EXPECT_EQ(store.target.reads, reads);
}

// ---- Trees that lie

class HostileTree : public ::testing::Test {
protected:
    NodeStore store;

    SegmentRef put_leaf(const std::vector<std::string>& keys) {
        EntryColumns leaf;
        for (const std::string& key : keys) {
            leaf.add(key, {});
        }
        return store.writer().put(leaf.encode());
    }

    SegmentRef put_parent(std::uint8_t height, const std::vector<std::tuple<std::string, SegmentRef, std::uint64_t>>& children) {
        ChildColumns columns;
        for (const auto& [key, at, count] : children) {
            columns.add(key, {at, count});
        }
        return store.writer().put(columns.encode(height));
    }

    void expect_damaged(const SegmentRef& root, std::uint8_t height, std::uint64_t count) {
        store.finish_writing();
        const TreeRoot tree{NodeRef{root, height}, count};
        TreeEntry entry;
        try {
            TreeCursor cursor(store.reader(), tree);
            while (cursor.next(entry)) {
            }
            FAIL() << "was walked";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        }
    }
};

TEST_F(HostileTree, SoundOneIsWalked) {
    const SegmentRef root = put_parent(1, {{"a", put_leaf({"a", "b"}), 2}, {"c", put_leaf({"c"}), 1}});
    store.finish_writing();
    EXPECT_EQ(read_all(store.reader(), {NodeRef{root, 1}, 3}).size(), 3U);
}

TEST_F(HostileTree, OneChildUsedTwiceIsDamaged) {
    const SegmentRef leaf = put_leaf({"a", "b"});
    expect_damaged(put_parent(1, {{"a", leaf, 2}, {"b", leaf, 2}}), 1, 4);
}

TEST_F(HostileTree, KeysBeyondTheParentsNextChildAreDamaged) {
    expect_damaged(put_parent(1, {{"a", put_leaf({"a", "c"}), 2}, {"c", put_leaf({"c"}), 1}}), 1, 3);
}

TEST_F(HostileTree, KeysBeyondTheGrandparentsNextChildAreDamaged) {
    const SegmentRef left = put_parent(1, {{"a", put_leaf({"a", "d"}), 2}});
    const SegmentRef right = put_parent(1, {{"c", put_leaf({"c"}), 1}});
    expect_damaged(put_parent(2, {{"a", left, 2}, {"c", right, 1}}), 2, 3);
}

TEST_F(HostileTree, WrongFirstKeyIsDamaged) {
    expect_damaged(put_parent(1, {{"a", put_leaf({"b"}), 1}}), 1, 1);
}

TEST_F(HostileTree, WrongCountIsDamaged) {
    expect_damaged(put_parent(1, {{"a", put_leaf({"a"}), 5}}), 1, 5);
}

TEST_F(HostileTree, WrongRootCountIsDamaged) {
    expect_damaged(put_leaf({"a"}), 0, 2);
}

TEST_F(HostileTree, WrongHeightIsDamaged) {
    const SegmentRef leaf = put_leaf({"a"});
    const SegmentRef middle = put_parent(1, {{"a", leaf, 1}});
    expect_damaged(put_parent(1, {{"a", middle, 1}}), 1, 1);
}

TEST_F(HostileTree, LeafOfAFileMapIsDamaged) {
    RunColumns runs;
    runs.add({0, 10, sample_pack(1), 0, 0, 1, Run::kNone});
    expect_damaged(store.writer().put(runs.encode()), 0, 1);
}

TEST_F(HostileTree, TooHighIsDamaged) {
    expect_damaged(put_parent(kHeightLimit, {{"a", put_leaf({"a"}), 1}}), kHeightLimit, 1);
}

TEST_F(HostileTree, UnsortedKeysAreDamaged) {
    expect_damaged(put_leaf({"b", "a"}), 0, 2);
}

}  // namespace
}  // namespace nodesnap::test
