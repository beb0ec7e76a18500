#include "snapshot/repository/map_editor.h"

#include <gtest/gtest.h>

#include <array>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/records_runs.h"
#include "snapshot/repository/run_cut.h"
#include "tests/repository/node_store.h"
#include "tests/repository/tree_check.h"

namespace nodesnap::test {
namespace {

using FileRun = nodesnap::Run;  // in a TEST, Run is a function

// Where a byte of a file comes from.
struct Source {
    enum Kind : std::uint8_t { kHole, kUnwritten, kDamaged, kData } kind = kHole;
    std::uint32_t pack = 0, segment = 0, position = 0;
    bool operator==(const Source&) const = default;
};
using Model = std::vector<Source>;

// Data packs whose segments have any length, so that runs can be cut anywhere. Only the footers count: the data are zeros.
class DataPacks {
public:
    explicit DataPacks(Random& random) : random_(random) {}

    std::uint32_t make() {
        std::vector<std::uint32_t> lengths(1 + random_.below(12));
        for (std::uint32_t& length : lengths) {
            length = 1 + static_cast<std::uint32_t>(random_.below(60));
        }
        lengths_.push_back(std::move(lengths));
        return static_cast<std::uint32_t>(lengths_.size() - 1);
    }
    static PackId id(std::uint32_t pack) { return PackId::of(*SessionId::parse("ffffffffffffffffffffff"), pack); }
    static std::uint32_t number(const PackId& pack) {
        return std::uint32_t{pack.bytes[12]} << 24 | std::uint32_t{pack.bytes[13]} << 16 | std::uint32_t{pack.bytes[14]} << 8 |
               pack.bytes[15];
    }
    std::uint32_t size() const { return static_cast<std::uint32_t>(lengths_.size()); }
    const std::vector<std::uint32_t>& lengths(std::uint32_t pack) const { return lengths_[pack]; }

    // Those that aren't stored yet: an editor may not need a pack that is still being written.
    void store(MemoryTarget& target) {
        for (; stored_ < lengths_.size(); ++stored_) {
            PackIndex index(layout::PackKind::kData, id(stored_), 0);
            std::uint64_t end = kPackAlignment;
            for (const std::uint32_t length : lengths_[stored_]) {
                const Checksum checksum{};
                index.add({end, 0, length, length, Codec::kNone}, std::span(&checksum, 1));
                end += kPackAlignment;
            }
            Bytes object = pack_head(sample_uuid(), layout::PackKind::kData, id(stored_), 0);
            object.resize(end);
            const Bytes tail = pack_tail(sample_uuid(), index, end);
            object.insert(object.end(), tail.begin(), tail.end());
            target.objects[layout::pack({layout::PackKind::kData, id(stored_), 0})] = std::move(object);
        }
    }

    // A run of some of a pack's bytes, at most `limit` of them.
    FileRun run(std::uint32_t pack, std::uint64_t offset, std::uint64_t limit) const {
        const auto& lengths = lengths_[pack];
        FileRun run{offset, 0, id(pack), static_cast<std::uint32_t>(random_.below(lengths.size())), 0, 0, FileRun::kNone};
        run.skip = static_cast<std::uint32_t>(random_.below(random_.chance(2) ? 1 : lengths[run.first]));
        std::uint64_t left = 1 + random_.below(limit);
        std::uint32_t from = run.skip;
        for (std::size_t i = run.first; i < lengths.size() && left != 0 && (run.count == 0 || !random_.chance(4)); ++i, from = 0) {
            const auto here = std::min<std::uint64_t>(left, lengths[i] - from);
            run.length += here;
            left -= here;
            ++run.count;
        }
        return run;
    }

    void say(Model& model, const FileRun& run) const {
        std::uint32_t segment = run.first;
        std::uint32_t position = run.skip;
        for (std::uint64_t i = run.offset; i < run.end(); ++i) {
            if (run.flags != FileRun::kNone) {
                model[i] = {run.flags == FileRun::kUnwritten ? Source::kUnwritten : Source::kDamaged};
                continue;
            }
            const std::uint32_t pack = number(run.pack);
            if (position == lengths_[pack].at(segment)) {
                ++segment;
                position = 0;
            }
            model[i] = {Source::kData, pack, segment, position++};
        }
        EXPECT_TRUE(run.flags != FileRun::kNone || segment == run.first + run.count - 1) << "segments without a byte";
    }

private:
    Random& random_;
    std::vector<std::vector<std::uint32_t>> lengths_;
    std::uint32_t stored_ = 0;
};

Inode file_of(const MapBuilder::Result& map) {
    Inode inode;
    inode.runs = map.inline_runs;
    inode.map = map.root;
    inode.run_count = map.run_count;
    return inode;
}

bool same(const Inode& a, const Inode& b) {
    return a.runs == b.runs && a.map == b.map && a.run_count == b.run_count;
}

std::vector<FileRun> read_all(NodeReader& nodes, const Inode& inode) {
    std::vector<FileRun> runs;
    MapCursor cursor(nodes, inode);
    FileRun run;
    while (cursor.next(run)) {
        runs.push_back(run);
    }
    return runs;
}

std::uint64_t data_bytes(const Model& model) {
    return static_cast<std::uint64_t>(std::count_if(model.begin(), model.end(), [](const Source& s) { return s.kind == Source::kData; }));
}

class MapWorld {
public:
    MapWorld(std::size_t entries_per_node, std::uint64_t file_bytes) : store(entries_per_node), model(file_bytes) {
        store.reopen();
        packs.make();
        packs.store(store.target);
    }

    // One backup's edits of the file.
    void round(bool changes) {
        const Model before = model;
        packs.make();
        MapEditor editor(store.reader(), store.packs(), inode, store.writer());
        std::uint64_t at = random.below(model.size());
        const std::uint64_t step = random.chance(2) ? 40 : 1 + model.size() / 4;
        const std::uint64_t edits = 1 + random.below(random.chance(8) ? 100 : 8);
        for (std::uint64_t i = 0; i < edits && at < model.size(); ++i, at += random.below(step)) {
            at = changes ? edit(editor, at) : edit_nothing(editor, at);
        }
        const Inode next = file_of(editor.finish());
        store.finish_writing();
        packs.store(store.target);
        const auto counts = editor.counts();
        ASSERT_EQ(data_bytes(before) + counts.data_added - counts.data_removed, data_bytes(model));
        if (!changes) {
            ASSERT_EQ(model, before);
        }
        if (model == before) {
            ASSERT_TRUE(same(next, inode));
            ASSERT_EQ(counts.nodes_written, 0U);
            ASSERT_EQ(counts.data_added, 0U);
        }
        const bool was_tree = inode.map.has_value();
        inode = next;
        ++seen[was_tree ? 1 : 0][inode.map ? 1 : 0];
        check();
    }

    void check() {
        const auto runs = read_all(store.reader(), inode);
        ASSERT_EQ(runs.size(), inode.run_count);
        ASSERT_EQ(inode.map.has_value(), runs.size() > kInlineRunLimit);
        Model got(model.size());
        std::uint64_t end = 0;
        for (const FileRun& run : runs) {
            ASSERT_EQ(flaw_of(run, end), nullptr);
            end = run.end();
            packs.say(got, run);
        }
        ASSERT_EQ(got, model);
        if (inode.map) {
            const TreeShape shape = check_tree(store.reader(), inode.map, inode.run_count, NodeView::Content::kRuns);
            ASSERT_LE(shape.leaves * store.writer().entries_per_node(), inode.run_count * 5 + 64);
            ASSERT_LE(shape.nodes, shape.leaves * 3 + 8);
        }
    }

    Random random;
    NodeStore store;
    DataPacks packs{random};
    Model model;
    Inode inode;
    std::array<std::array<int, 2>, 2> seen{};  // [was a tree][is one]

private:
    std::uint64_t edit(MapEditor& editor, std::uint64_t at) {
        const std::uint64_t room = std::min<std::uint64_t>(model.size() - at, random.chance(30) ? model.size() : 120);
        if (random.chance(5)) {
            const std::uint64_t end = at + random.below(room + 1);
            editor.cut(at, end);
            std::fill(model.begin() + static_cast<std::ptrdiff_t>(at), model.begin() + static_cast<std::ptrdiff_t>(end), Source{});
            return end;
        }
        if (random.chance(4)) {
            return edit_nothing(editor, at);
        }
        FileRun run{at, 1 + random.below(room), {}, 0, 0, 0, random.chance(2) ? FileRun::kUnwritten : FileRun::kDamagedSource};
        if (!random.chance(8)) {
            const auto newest = packs.size() - 1;
            run = packs.run(random.chance(3) ? static_cast<std::uint32_t>(random.below(newest)) : newest, at, room);
        }
        editor.replace(run);
        packs.say(model, run);
        return run.end();
    }

    // Says of a range what the old map says, maybe for less, or with two runs instead of one.
    std::uint64_t edit_nothing(MapEditor& editor, std::uint64_t at) {
        MapCursor cursor(store.reader(), inode, at);
        FileRun run;
        if (!cursor.next(run)) {
            editor.cut(at, model.size());
            return model.size();
        }
        if (run.offset > at) {
            editor.cut(at, at + 1 + random.below(run.offset - at));
            return run.offset;
        }
        const std::uint64_t from = at - run.offset;
        const std::uint64_t length = 1 + random.below(run.length - from);
        const std::uint64_t first = random.below(length);
        if (first != 0) {
            editor.replace(part_of(run, from, first, store.packs()));
        }
        editor.replace(part_of(run, from + first, length - first, store.packs()));
        return at + length;
    }
};

void edit_again_and_again(std::size_t entries_per_node, std::uint64_t file_bytes, int rounds) {
    MapWorld world(entries_per_node, file_bytes);
    for (int i = 0; i < rounds && !::testing::Test::HasFatalFailure(); ++i) {
        world.round(i % 10 != 9);
    }
    for (const auto& from : world.seen) {
        for (const int count : from) {
            EXPECT_GT(file_bytes == 3000 ? count : 1, 0) << "not every change between inline maps and trees was made";
        }
    }
}

TEST(MapEditor, ManyRoundsOfEditsAreWhatTheModelSays) {
    edit_again_and_again(8, 20'000, 600);
}

TEST(MapEditor, ManyRoundsOfEditsInNarrowNodes) {
    edit_again_and_again(3, 10'000, 300);
    edit_again_and_again(5, 10'000, 300);
}

TEST(MapEditor, ManyRoundsOfEditsBetweenInlineMapsAndTrees) {
    edit_again_and_again(6, 3000, 1500);
}

class EditedMap : public ::testing::Test {
protected:
    static constexpr std::uint64_t kRuns = 10'000;

    EditedMap() {
        put_data_pack(store.target, sample_pack(1000), 50, 200);
        MapBuilder builder(store.writer());
        for (std::uint64_t i = 0; i < kRuns; ++i) {
            builder.add(old_run(i));
        }
        inode = file_of(builder.finish());
        store.finish_writing();
    }
    // Of three segments, from the middle of the first to the middle of the third.
    static FileRun old_run(std::uint64_t i) {
        return {i * 1000, 400, sample_pack(1000), static_cast<std::uint32_t>(2 * (i % 20) + 1), 100, 3, 0};
    }
    MapBuilder::Result edited(const std::function<void(MapEditor&)>& edit) {
        MapEditor editor(store.reader(), store.packs(), inode, store.writer());
        edit(editor);
        auto result = editor.finish();
        store.finish_writing();
        counts = editor.counts();
        return result;
    }

    NodeStore store{8};
    Inode inode;
    MapEditor::Counts counts;
};

TEST_F(EditedMap, OneReplacedRunWritesOneNodePerLevelAndReadsNoOther) {
    store.reopen();
    std::uint64_t before = store.target.reads;
    FileRun run;
    MapCursor(store.reader(), inode, 5'000'100).next(run);
    const std::uint64_t path_reads = store.target.reads - before;
    store.reopen();
    before = store.target.reads;
    MapEditor editor(store.reader(), store.packs(), inode, store.writer());
    editor.replace({5'000'000, 400, sample_pack(2000), 0, 0, 1, 0});
    editor.finish();
    EXPECT_EQ(store.target.reads - before, path_reads);
    EXPECT_EQ(editor.counts().nodes_written, inode.map->height + 1U);
    EXPECT_EQ(editor.counts().data_added, 400U);
    EXPECT_EQ(editor.counts().data_removed, 400U);
}

TEST_F(EditedMap, ARunIsSplitAroundWhatReplacesItsMiddle) {
    const FileRun middle{10'150, 100, sample_pack(2000), 7, 0, 1, 0};
    const Inode next = file_of(edited([&](MapEditor& editor) { editor.replace(middle); }));
    const FileRun old = old_run(10);
    const auto runs = read_all(store.reader(), next);
    ASSERT_EQ(runs.size(), kRuns + 2);
    EXPECT_EQ(runs[10], (FileRun{10'000, 150, old.pack, old.first, 100, 2, 0}));
    EXPECT_EQ(runs[11], middle);
    EXPECT_EQ(runs[12], (FileRun{10'250, 150, old.pack, old.first + 1, 150, 2, 0}));
}

TEST_F(EditedMap, CuttingToFewRunsBringsThemInline) {
    const auto result = edited([](MapEditor& editor) {
        editor.cut(0, 5'000'000);
        editor.cut(5'064'000, kRuns * 1000);
    });
    ASSERT_FALSE(result.root);
    ASSERT_EQ(result.inline_runs.size(), kInlineRunLimit);
    EXPECT_EQ(result.inline_runs.front(), old_run(5000));
    EXPECT_EQ(result.inline_runs.back(), old_run(5063));
    EXPECT_EQ(counts.nodes_written, 0U);
    EXPECT_EQ(counts.data_removed, (kRuns - kInlineRunLimit) * 400);
}

TEST_F(EditedMap, EverythingCutIsAHole) {
    const auto result = edited([](MapEditor& editor) { editor.cut(0, kRuns * 1000); });
    EXPECT_FALSE(result.root);
    EXPECT_EQ(result.run_count, 0U);
}

TEST_F(EditedMap, SayingTheSameWritesNothing) {
    const auto result = edited([](MapEditor& editor) {
        editor.cut(400, 1000);
        editor.replace(old_run(1));
        editor.replace({5'000'150, 200, sample_pack(1000), old_run(5000).first + 1, 50, 2, 0});
    });
    EXPECT_TRUE(same(file_of(result), inode));
    EXPECT_EQ(counts.nodes_written, 0U);
}

TEST_F(EditedMap, AppendedRunsThatContinueTheLastOneAreMerged) {
    const auto last = FileRun{kRuns * 1000, 50, sample_pack(1000), 4, 0, 1, 0};
    inode = file_of(edited([&](MapEditor& editor) { editor.replace(last); }));
    inode = file_of(edited([&](MapEditor& editor) { editor.replace({last.end(), 150, last.pack, 4, 50, 1, 0}, true); }));
    EXPECT_EQ(inode.run_count, kRuns + 1);
    EXPECT_EQ(read_all(store.reader(), inode).back(), (FileRun{kRuns * 1000, 200, sample_pack(1000), 4, 0, 1, 0}));
}

TEST_F(EditedMap, EditsOutOfOrderAreAnError) {
    MapEditor editor(store.reader(), store.packs(), inode, store.writer());
    editor.replace({5000, 400, sample_pack(2000), 0, 0, 1, 0});
    EXPECT_THROW(editor.replace({5399, 10, sample_pack(2000), 0, 0, 1, 0}), Error);
    EXPECT_THROW(editor.cut(5399, 6000), Error);
    EXPECT_THROW(editor.cut(6000, 5500), Error);
    EXPECT_THROW(editor.replace({6000, 0, sample_pack(2000), 0, 0, 1, 0}), Error);
}

void expect_damaged(const std::function<void()>& what) {
    try {
        what();
        FAIL() << "nothing was noticed";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kDamaged);
    }
}

TEST_F(EditedMap, CuttingARunWhoseSegmentsArentThereIsDamaged) {
    for (const FileRun& lie : {FileRun{0, 500, sample_pack(1000), 49, 0, 2, 0}, FileRun{0, 500, sample_pack(1000), 60, 0, 2, 0},
                               FileRun{0, 500, sample_pack(1000), 4, 0, 2, 0}, FileRun{0, 500, sample_pack(3000), 4, 0, 2, 0}}) {
        Inode hostile;
        hostile.runs = {lie};
        hostile.run_count = 1;
        MapEditor editor(store.reader(), store.packs(), hostile, store.writer());
        expect_damaged([&] { editor.cut(450, 460); });
    }
}

TEST_F(EditedMap, ADamagedNodeOnThePathIsAnError) {
    const auto pack = store.packs().get(layout::PackKind::kNodes, inode.map->at.pack);
    Bytes& object = store.target.objects.at(pack->object());
    for (std::uint32_t i = 0; i < inode.map->at.number; ++i) {
        object[pack->index().segment(i).offset + 3] ^= std::byte{1};
        object[pack->index().segment(i).second_offset + 3] ^= std::byte{1};
    }
    store.reopen();
    expect_damaged([&] { edited([](MapEditor& editor) { editor.cut(5000, 6000); }); });
}

TEST(RunCut, PartsOfFlagsAndOfOneSegmentNeedNoFooter) {
    NodeStore store;
    store.reopen();
    EXPECT_EQ(part_of({100, 50, sample_pack(1), 3, 10, 1, 0}, 20, 5, store.packs()), (FileRun{120, 5, sample_pack(1), 3, 30, 1, 0}));
    EXPECT_EQ(part_of({100, 50, {}, 0, 0, 0, FileRun::kUnwritten}, 20, 5, store.packs()),
              (FileRun{120, 5, {}, 0, 0, 0, FileRun::kUnwritten}));
    const FileRun whole{100, 5000, sample_pack(1), 3, 10, 4, 0};
    EXPECT_EQ(part_of(whole, 0, 5000, store.packs()), whole);
}

}  // namespace
}  // namespace nodesnap::test
