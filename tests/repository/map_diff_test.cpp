#include "snapshot/repository/map_diff.h"

#include <gtest/gtest.h>

#include <array>
#include <tuple>

#include "tests/repository/sharing_builder.h"

namespace nodesnap::test {
namespace {

using FileRun = nodesnap::Run;  // in a TEST, Run is a function

constexpr std::uint32_t kPacks = 3;
constexpr std::uint32_t kSegments = 200;
constexpr std::uint32_t kSegmentBytes = 7;

// What a byte of a file is: its kind, and the byte of the pack that it is taken from.
struct Origin {
    RangeKind kind = RangeKind::kHole;
    std::uint32_t pack = 0;
    std::uint64_t position = 0;
    bool operator==(const Origin&) const = default;
};
using File = std::vector<Origin>;

void put_range(Random& random, File& file) {
    const std::size_t offset = random.below(file.size());
    const std::size_t length = std::min<std::size_t>(1 + random.below(random.chance(5) ? 400 : 30), file.size() - offset);
    const auto kind = static_cast<RangeKind>(random.chance(3) ? random.below(4) : 1);
    const auto pack = static_cast<std::uint32_t>(random.below(kPacks));
    const std::uint64_t position = random.below(kSegments * kSegmentBytes - length);
    for (std::size_t i = 0; i < length; ++i) {
        file[offset + i] = kind == RangeKind::kData ? Origin{kind, pack, position + i} : Origin{kind, 0, 0};
    }
}

// Runs that make the file, cut at random besides where they must be.
std::vector<FileRun> runs_of(Random& random, const File& file, std::uint64_t one_cut_in) {
    std::vector<FileRun> runs;
    for (std::size_t i = 0; i < file.size();) {
        const Origin& origin = file[i];
        std::size_t end = i + 1;
        const auto continues = [&] {
            return file[end].kind == origin.kind && (origin.kind != RangeKind::kData ||
                                                     (file[end].pack == origin.pack && file[end].position == origin.position + (end - i)));
        };
        while (end < file.size() && continues() && !random.chance(one_cut_in)) {
            ++end;
        }
        FileRun run;
        run.offset = i;
        run.length = end - i;
        if (origin.kind == RangeKind::kData) {
            run.pack = sample_pack(origin.pack);
            run.first = static_cast<std::uint32_t>(origin.position / kSegmentBytes);
            run.skip = static_cast<std::uint32_t>(origin.position % kSegmentBytes);
            run.count = static_cast<std::uint32_t>((origin.position + run.length - 1) / kSegmentBytes) - run.first + 1;
        } else {
            run.flags = origin.kind == RangeKind::kUnwritten ? FileRun::kUnwritten : FileRun::kDamagedSource;
        }
        if (origin.kind != RangeKind::kHole) {
            runs.push_back(run);
        }
        i = end;
    }
    return runs;
}

Inode inline_file(const std::vector<FileRun>& runs) {
    Inode inode;
    inode.runs = runs;
    inode.run_count = runs.size();
    return inode;
}

struct Stored {
    NodeStore store;
    Stored() {
        for (std::uint32_t pack = 0; pack < kPacks; ++pack) {
            put_data_pack(store.target, sample_pack(pack), kSegments, kSegmentBytes);
        }
        // The numbers of the first packs are taken.
        for (std::uint32_t pack = 0; pack < kPacks; ++pack) {
            store.skip_pack();
        }
    }
};

std::vector<MapChange> changes_of(NodeStore& store, const Inode& before, const Inode& after) {
    RunPlaces places(store.packs());
    MapDiff diff(store.reader(), places, before, after);
    std::vector<MapChange> changes;
    MapChange change;
    while (diff.next(change)) {
        EXPECT_GT(change.length, 0U);
        EXPECT_TRUE(changes.empty() || changes.back().end() <= change.offset);
        changes.push_back(change);
    }
    EXPECT_FALSE(diff.next(change));
    return changes;
}

void expect_differences(NodeStore& store, const Inode& a, const Inode& b, const File& before, const File& after, int round) {
    std::vector<std::optional<std::pair<RangeKind, RangeKind>>> told(before.size());
    for (const MapChange& change : changes_of(store, a, b)) {
        ASSERT_LE(change.end(), before.size());
        for (std::uint64_t i = change.offset; i < change.end(); ++i) {
            told[i] = {change.before, change.after};
        }
    }
    for (std::size_t i = 0; i < before.size(); ++i) {
        ASSERT_EQ(told[i].has_value(), before[i] != after[i]) << "round " << round << ", byte " << i;
        if (told[i]) {
            ASSERT_EQ(*told[i], std::pair(before[i].kind, after[i].kind)) << "round " << round << ", byte " << i;
        }
    }
}

TEST(MapDiff, TellsWhatDiffersBetweenRandomMaps) {
    Random random;
    for (int round = 0; round < 400; ++round) {
        Stored stored;
        SharingBuilder builder(stored.store, 2 + random.below(4));
        File before(1 + random.below(2000));
        for (std::uint64_t i = random.below(60); i != 0; --i) {
            put_range(random, before);
        }
        File after = before;
        for (std::uint64_t i = random.below(5); i != 0; --i) {
            put_range(random, after);
        }
        const std::uint64_t cuts = random.chance(2) ? 10'000 : 30;
        const auto make = [&](const File& file) {
            const auto runs = runs_of(random, file, cuts);
            return random.chance(4) ? inline_file(runs) : builder.map(runs);
        };
        const Inode a = make(before);
        const Inode b = make(after);
        stored.store.finish_writing();
        expect_differences(stored.store, a, b, before, after, round);
        expect_differences(stored.store, b, a, after, before, round);
        if (testing::Test::HasFatalFailure()) {
            return;
        }
    }
}

// Runs of one segment each in the first pack, none continuing the one before.
std::vector<FileRun> many_runs(std::size_t count) {
    std::vector<FileRun> runs;
    for (std::size_t i = 0; i < count; ++i) {
        runs.push_back({10 * i, 5, sample_pack(0), static_cast<std::uint32_t>(i * 7 % kSegments), 0, 1, FileRun::kNone});
    }
    return runs;
}

TEST(MapDiff, ReadsOnlyTheNodesAboveWhatDiffers) {
    Stored stored;
    SharingBuilder builder(stored.store, 4);
    auto runs = many_runs(20'000);
    const Inode before = builder.map(runs);
    runs[7000].pack = sample_pack(1);
    runs[15'000].length = 4;
    runs.erase(runs.begin() + 15'500);
    const Inode after = builder.map(runs);
    stored.store.finish_writing();
    ASSERT_GT(builder.nodes(), 4000U);
    const std::uint64_t reads = stored.store.target.reads;
    const auto changes = changes_of(stored.store, before, after);
    EXPECT_LT(stored.store.target.reads - reads, 150U);
    ASSERT_EQ(changes.size(), 3U);
    EXPECT_EQ(changes[0].offset, 70'000U);
    EXPECT_EQ(changes[0].length, 5U);
    EXPECT_EQ(changes[1].offset, 150'004U);
    EXPECT_EQ(changes[1].length, 1U);
    EXPECT_EQ(changes[1].after, RangeKind::kHole);
    EXPECT_EQ(changes[2].offset, 155'000U);
}

TEST(MapDiff, FindsASharedNodeAtAnotherHeight) {
    Stored stored;
    SharingBuilder builder(stored.store, 4);
    const Inode low = builder.map(many_runs(5000));
    // The whole of one map is the first child of the other's root.
    RunColumns last;
    last.add({60'000, 5, sample_pack(1), 0, 0, 1, FileRun::kNone});
    SegmentRef at = stored.store.writer().put(last.encode());
    for (std::uint8_t height = 1; height <= low.map->height; ++height) {
        ChildColumns columns;
        columns.add(offset_key(60'000), {at, 1});
        at = stored.store.writer().put(columns.encode(height));
    }
    ChildColumns top;
    top.add(offset_key(0), {low.map->at, low.run_count});
    top.add(offset_key(60'000), {at, 1});
    const auto height = static_cast<std::uint8_t>(low.map->height + 1);
    Inode high;
    high.map = NodeRef{stored.store.writer().put(top.encode(height)), height};
    high.run_count = low.run_count + 1;
    stored.store.finish_writing();
    const std::uint64_t reads = stored.store.target.reads;
    EXPECT_EQ(changes_of(stored.store, low, high).size(), 1U);
    EXPECT_EQ(changes_of(stored.store, high, low).size(), 1U);
    EXPECT_LT(stored.store.target.reads - reads, 60U);
}

TEST(MapDiff, NeedsNoFooterWhereRunsBeginAtTheSameSegment) {
    NodeStore store;  // there are no packs
    store.finish_writing();
    const Inode whole = inline_file({{0, 5 << 20, sample_pack(9), 3, 100, 6, FileRun::kNone}});
    const Inode cut = inline_file(
        {{0, 4096, sample_pack(9), 3, 100, 1, FileRun::kNone}, {8192, (5 << 20) - 8192, sample_pack(9), 3, 8292, 6, FileRun::kNone}});
    const auto changes = changes_of(store, whole, cut);
    ASSERT_EQ(changes.size(), 1U);
    EXPECT_EQ(changes[0].offset, 4096U);
    EXPECT_EQ(changes[0].end(), 8192U);
    const Inode elsewhere = inline_file({{0, 5 << 20, sample_pack(9), 2, 100, 6, FileRun::kNone}});
    EXPECT_THROW(changes_of(store, whole, elsewhere), Error);
}

TEST(MapDiff, ARunThatItsPackDoesNotHoldIsDamaged) {
    Stored stored;
    stored.store.finish_writing();
    const Inode sound = inline_file({{0, 14, sample_pack(0), 1, 0, 2, FileRun::kNone}});
    for (const FileRun& run :
         {FileRun{0, 14, sample_pack(0), kSegments - 1, 0, 2, FileRun::kNone}, FileRun{0, 15, sample_pack(0), 2, 6, 2, FileRun::kNone}}) {
        EXPECT_THROW(
            {
                RunPlaces places(stored.store.packs());
                places.find(run, run.end() - 1);
            },
            Error);
    }
    EXPECT_THROW(changes_of(stored.store, sound, inline_file({{0, 14, sample_pack(0), kSegments - 1, 0, 2, FileRun::kNone}})), Error);
}

TEST(RunPlaces, FindsSegmentsOfDifferentLengths) {
    MemoryTarget target;
    PackIndex index(layout::PackKind::kData, sample_pack(0), 0);
    std::uint64_t offset = kPackAlignment;
    for (const std::uint32_t length : {100U, 70'000U, 1U, 4096U}) {
        index.add({offset, 0, length, length, Codec::kNone}, std::vector<Checksum>(block_count(length)));
        offset += (length + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
    }
    Bytes object = pack_head(sample_uuid(), layout::PackKind::kData, sample_pack(0), 0);
    object.resize(offset);
    const Bytes tail = pack_tail(sample_uuid(), index, offset);
    object.insert(object.end(), tail.begin(), tail.end());
    target.objects[layout::pack({layout::PackKind::kData, sample_pack(0), 0})] = object;
    PackCache packs(target, sample_uuid(), [](const Damage&) {});
    RunPlaces places(packs);
    const FileRun run{1000, 70'000 + 90 + 1 + 96, sample_pack(0), 0, 10, 4, FileRun::kNone};
    using Place = std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t>;
    for (const auto& [at, segment, from, left] :
         {Place{1000, 0, 10, 90}, Place{1089, 0, 99, 1}, Place{1090, 1, 0, 70'000}, Place{71'089, 1, 69'999, 1}, Place{71'090, 2, 0, 1},
          Place{71'091, 3, 0, 4096}, Place{71'186, 3, 95, 4001}}) {
        const RunPlace place = places.find(run, at);
        EXPECT_EQ(place.segment, segment) << at;
        EXPECT_EQ(place.from, from) << at;
        EXPECT_EQ(place.left, left) << at;
    }
}

}  // namespace
}  // namespace nodesnap::test
