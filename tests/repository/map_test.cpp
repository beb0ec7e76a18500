#include <gtest/gtest.h>
#include <sys/resource.h>

#include "snapshot/repository/node_format.h"
#include "tests/repository/node_store.h"

namespace nodesnap::test {
namespace {

using FileRun = nodesnap::Run;  // in a TEST, Run is a function

Inode file_of(const MapBuilder::Result& map) {
    Inode inode;
    inode.runs = map.inline_runs;
    inode.map = map.root;
    inode.run_count = map.run_count;
    return inode;
}

Inode build(NodeStore& store, const std::vector<FileRun>& runs) {
    MapBuilder builder(store.writer());
    for (const FileRun& run : runs) {
        builder.add(run);
    }
    const Inode inode = file_of(builder.finish());
    store.finish_writing();
    return inode;
}

std::vector<FileRun> read_all(NodeReader& nodes, const Inode& inode, std::uint64_t from = 0) {
    std::vector<FileRun> runs;
    MapCursor cursor(nodes, inode, from);
    FileRun run;
    while (cursor.next(run)) {
        runs.push_back(run);
    }
    return runs;
}

// Runs that can't be merged, as an aged file has them.
std::vector<FileRun> random_runs(Random& random, std::size_t count) {
    std::vector<FileRun> runs;
    std::uint64_t offset = random.below(10'000);
    while (runs.size() < count) {
        FileRun run;
        run.offset = offset + (random.chance(3) ? 1 + random.below(1U << 20) : 0);
        if (random.chance(10)) {
            run.flags = runs.empty() || runs.back().flags != FileRun::kUnwritten ? FileRun::kUnwritten : FileRun::kDamagedSource;
            run.length = 1 + random.below(1ULL << 30);
        } else {
            run.pack = sample_pack(static_cast<std::uint32_t>(random.below(300)));
            run.first = static_cast<std::uint32_t>(random.below(60'000));
            run.skip = random.chance(3) ? static_cast<std::uint32_t>(random.below(500'000)) : 0;
            run.count = random.chance(3) ? 1 + static_cast<std::uint32_t>(random.below(100)) : 1;
            run.length = run.count + random.below(run.count * 500'000ULL);
        }
        offset = run.end();
        runs.push_back(run);
    }
    return runs;
}

TEST(Map, FewRunsStayInTheInodeRecord) {
    NodeStore store;
    Random random;
    const auto runs = random_runs(random, kInlineRunLimit);
    const Inode inode = build(store, runs);
    EXPECT_EQ(inode.runs, runs);
    EXPECT_FALSE(inode.map);
    EXPECT_TRUE(store.target.objects.empty());
    EXPECT_EQ(read_all(store.reader(), inode), runs);
    EXPECT_EQ(decode_inode(encode(inode)).runs, runs);
}

TEST(Map, ManyRunsComeBackFromAnyOffsetOn) {
    Random random;
    for (const std::size_t count : {kInlineRunLimit, kInlineRunLimit + 1, std::size_t{5000}, std::size_t{200'000}}) {
        NodeStore store;
        const auto runs = random_runs(random, count);
        const Inode inode = build(store, runs);
        EXPECT_EQ(inode.map.has_value(), count > kInlineRunLimit);
        ASSERT_EQ(read_all(store.reader(), inode), runs);
        for (int i = 0; i < 50; ++i) {
            const std::uint64_t from = random.below(runs.back().end() + 10);
            std::vector<FileRun> expected;
            std::copy_if(runs.begin(), runs.end(), std::back_inserter(expected), [&](const FileRun& run) { return run.end() > from; });
            MapCursor cursor(store.reader(), inode, from);
            FileRun run;
            ASSERT_EQ(cursor.next(run), !expected.empty());
            if (!expected.empty()) {
                ASSERT_EQ(run, expected.front()) << from;
            }
        }
    }
}

TEST(Map, NoRunsAreAHole) {
    NodeStore store;
    const Inode inode = build(store, {});
    EXPECT_EQ(inode.run_count, 0U);
    EXPECT_TRUE(read_all(store.reader(), inode).empty());
}

TEST(Map, RunsOfWholeSegmentsThatFollowEachOtherAreMerged) {
    NodeStore store;
    const PackId pack = sample_pack(1);
    const FileRun merged{0, 2 * kSegmentLimit + 500, pack, 7, 0, 3, FileRun::kNone};
    EXPECT_EQ(build(store, {{0, kSegmentLimit, pack, 7, 0, 1, FileRun::kNone},
                            {kSegmentLimit, kSegmentLimit, pack, 8, 0, 1, FileRun::kNone},
                            {2 * kSegmentLimit, 500, pack, 9, 0, 1, FileRun::kNone}})
                  .runs,
              std::vector{merged});
}

TEST(Map, RunsThatMayEndWithinASegmentAreNotMerged) {
    NodeStore store;
    const PackId pack = sample_pack(1);
    const std::vector<FileRun> runs = {{0, 4096, pack, 7, 0, 1, FileRun::kNone}, {4096, 4096, pack, 8, 0, 1, FileRun::kNone}};
    EXPECT_EQ(build(store, runs).runs, runs) << "segment 7 may be longer than 4096";
    MapBuilder told(store.writer());
    told.add(runs[0], true);
    told.add(runs[1], true);
    EXPECT_EQ(told.finish().inline_runs, (std::vector<FileRun>{{0, 8192, pack, 7, 0, 2, FileRun::kNone}}));
}

TEST(Map, PiecesOfOneSegmentAreMerged) {
    NodeStore store;
    const PackId pack = sample_pack(1);
    EXPECT_EQ(build(store, {{100, 50, pack, 7, 10, 1, FileRun::kNone}, {150, 50, pack, 7, 60, 1, FileRun::kNone}}).runs,
              (std::vector<FileRun>{{100, 100, pack, 7, 10, 1, FileRun::kNone}}));
    const std::vector<FileRun> apart = {{100, 50, pack, 7, 10, 1, FileRun::kNone}, {150, 50, pack, 7, 61, 1, FileRun::kNone}};
    EXPECT_EQ(build(store, apart).runs, apart);
}

TEST(Map, UnwrittenAndDamagedRangesAreMergedEachWithItsKind) {
    NodeStore store;
    EXPECT_EQ(build(store, {{0, 10, {}, 0, 0, 0, FileRun::kUnwritten},
                            {10, 10, {}, 0, 0, 0, FileRun::kUnwritten},
                            {20, 5, {}, 0, 0, 0, FileRun::kDamagedSource},
                            {30, 5, {}, 0, 0, 0, FileRun::kDamagedSource}})
                  .runs,
              (std::vector<FileRun>{{0, 20, {}, 0, 0, 0, FileRun::kUnwritten},
                                    {20, 5, {}, 0, 0, 0, FileRun::kDamagedSource},
                                    {30, 5, {}, 0, 0, 0, FileRun::kDamagedSource}}));
}

TEST(Map, OverlapIsAnError) {
    NodeStore store;
    MapBuilder builder(store.writer());
    builder.add({0, 10, sample_pack(1), 0, 0, 1, FileRun::kNone});
    EXPECT_THROW(builder.add({9, 10, sample_pack(1), 5, 0, 1, FileRun::kNone}), Error);
    EXPECT_THROW(builder.add({20, 0, sample_pack(1), 5, 0, 1, FileRun::kNone}), Error);
}

TEST(Map, AgedFilesTakeFewBytesPerRun) {
    NodeStore store;
    Random random;
    MapBuilder builder(store.writer());
    constexpr std::uint64_t kPages = 262'144;  // each page from some backup of the last 50
    for (std::uint64_t i = 0; i < kPages; ++i) {
        const auto backup = static_cast<std::uint32_t>(random.below(50));
        builder.add({i * 4096, 4096, sample_pack(backup), static_cast<std::uint32_t>(i / 100), 0, 1, FileRun::kNone});
    }
    builder.finish();
    store.finish_writing();
    const std::uint64_t per_run = store.writer().stored_bytes() / kPages;
    RecordProperty("bytes_per_run", static_cast<int>(per_run));
    EXPECT_LE(per_run, 12U) << "of both copies";
}

// ---- Maps that lie

TEST(HostileMap, RunsBeyondTheParentsNextChildAreDamaged) {
    NodeStore store;
    RunColumns first, second;
    first.add({0, 100, sample_pack(1), 0, 0, 1, FileRun::kNone});
    second.add({50, 100, sample_pack(1), 1, 0, 1, FileRun::kNone});
    ChildColumns parent;
    parent.add(offset_key(0), {store.writer().put(first.encode()), 1});
    parent.add(offset_key(50), {store.writer().put(second.encode()), 1});
    Inode inode;
    inode.map = NodeRef{store.writer().put(parent.encode(1)), 1};
    inode.run_count = 2;
    store.finish_writing();
    EXPECT_THROW(read_all(store.reader(), inode), Error);
}

TEST(HostileMap, WrongNumberOfRunsIsDamaged) {
    NodeStore store;
    Random random;
    Inode inode = build(store, random_runs(random, 5000));
    ++inode.run_count;
    EXPECT_THROW(read_all(store.reader(), inode), Error);
}

}  // namespace
}  // namespace nodesnap::test
