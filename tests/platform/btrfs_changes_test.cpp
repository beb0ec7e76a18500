#include "platform/btrfs_changes.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <ostream>

#include "platform/btrfs_references.h"
#include "platform/error.h"
#include "platform/inode_flags.h"
#include "tests/platform/btrfs_tree_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::btrfs {

// For messages of failed expectations.
std::ostream& operator<<(std::ostream& out, const ChangedStretch& stretch) {
    static constexpr const char* kNames[] = {"data", "older data", "unwritten", "hole"};
    return out << kNames[static_cast<int>(stretch.kind)] << ' ' << stretch.offset << '+' << stretch.length;
}

namespace {

namespace fs = std::filesystem;

using Kind = ChangedStretch::Kind;
using Stretches = std::vector<ChangedStretch>;
constexpr std::uint64_t kNever = UINT64_MAX;

Stretches changes_of(const Snapshot& parent, const Snapshot& now, std::uint64_t ino, std::uint64_t changed_from, std::uint64_t end) {
    FileChanges changes(parent.fd.get(), now.fd.get(), ino, changed_from, end, now.path);
    Stretches all;
    for (ChangedStretch stretch; changes.next(stretch);) {
        all.push_back(stretch);
    }
    ChangedStretch more;
    EXPECT_FALSE(changes.next(more));
    return all;
}

class BtrfsChangesTest : public BtrfsTreeTest {
protected:
    // What changed in "file" by `change`.
    template <typename Change>
    Stretches changes_by(Change change, std::uint64_t changed_from = kNever, std::uint64_t end = 4 * kMiB) {
        const Snapshot parent = snapshot();
        change();
        return changes_of(parent, snapshot(), ino_of(*this / "file"), changed_from, end);
    }
    std::vector<FileExtent> extents_of(const std::string& path, std::uint64_t from = 0) {
        sync_path(path);
        commit(open_file(mount_->path(), O_RDONLY).get(), mount_->path());
        const FileDescriptor subvolume = open_file(*this / "", O_RDONLY);
        FileExtents extents(subvolume.get(), ino_of(path), from, path);
        std::vector<FileExtent> all;
        for (FileExtent extent; extents.next(extent);) {
            all.push_back(extent);
        }
        return all;
    }
    std::string file() const { return *this / "file"; }
};

TEST_F(BtrfsChangesTest, OnlyWhatWasTouchedDiffers) {
    write_at(file(), 0, kMiB);
    sync_path(file());
    EXPECT_EQ(changes_by([&] { write_at(file(), 64 * kKiB + 5, 10, 'x'); }), (Stretches{{Kind::kData, 64 * kKiB, kBlock}}));
    EXPECT_EQ(changes_by([&] { punch(file(), 128 * kKiB, 64 * kKiB); }), (Stretches{{Kind::kHole, 128 * kKiB, 64 * kKiB}}));
    EXPECT_EQ(changes_by([&] { allocate(file(), 0, 128 * kKiB, 32 * kKiB); }), (Stretches{{Kind::kUnwritten, 128 * kKiB, 32 * kKiB}}));
    EXPECT_EQ(changes_by([&] { write_at(file(), 136 * kKiB, 4 * kKiB); }), (Stretches{{Kind::kData, 136 * kKiB, 4 * kKiB}}));
    EXPECT_EQ(changes_by([&] { allocate(file(), FALLOC_FL_KEEP_SIZE, 2 * kMiB, kMiB); }), (Stretches{{Kind::kUnwritten, 2 * kMiB, kMiB}}));
    EXPECT_EQ(changes_by([&] { clone_range(file(), 512 * kKiB, 64 * kKiB, file(), 256 * kKiB); }),
              (Stretches{{Kind::kData, 256 * kKiB, 64 * kKiB}}));
    EXPECT_EQ(changes_by([&] { allocate(file(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 64 * kKiB); }),
              (Stretches{{Kind::kUnwritten, 0, 64 * kKiB}}));
    EXPECT_EQ(changes_by([&] { fs::permissions(file(), fs::perms::owner_read); }), Stretches{});
}

TEST_F(BtrfsChangesTest, WhatWasThereBeforeIsOlderData) {
    write_at(file(), 0, kMiB);
    write_at(*this / "other", 0, kMiB, 'o');
    sync_path(file());
    sync_path(*this / "other");
    const Snapshot parent = snapshot();
    clone_range(*this / "other", 512 * kKiB, 64 * kKiB, file(), 128 * kKiB);
    clone_range(file(), 0, 64 * kKiB, file(), 256 * kKiB);
    write_at(*this / "other", 0, 64 * kKiB, 'n');
    sync_path(*this / "other");
    clone_range(*this / "other", 0, 64 * kKiB, file(), 320 * kKiB);
    punch(file(), 640 * kKiB, 64 * kKiB);
    const Snapshot now = snapshot();
    FileChanges changes(parent.fd.get(), now.fd.get(), ino_of(file()), kNever, kMiB, now.path, parent.info.otransid);
    Stretches all;
    for (ChangedStretch stretch; changes.next(stretch);) {
        all.push_back(stretch);
    }
    EXPECT_EQ(all, (Stretches{{Kind::kOlderData, 128 * kKiB, 64 * kKiB},
                              {Kind::kOlderData, 256 * kKiB, 64 * kKiB},
                              {Kind::kData, 320 * kKiB, 64 * kKiB},
                              {Kind::kHole, 640 * kKiB, 64 * kKiB}}));
}

TEST_F(BtrfsChangesTest, WhoRefersToAPlaceInAnExtent) {
    write_at(file(), 0, kMiB);
    sync_path(file());
    clone_range(file(), 512 * kKiB, 64 * kKiB, *this / "copy", 16 * kKiB);
    const Snapshot snapshot_now = snapshot();
    const auto extent = extents_of(file()).at(0);
    const FileDescriptor live = open_file(*this / "", O_RDONLY);
    const std::uint64_t here = subvolume_id(live.get());
    const std::uint64_t there = snapshot_now.info.id;
    const auto referring = [&](std::uint64_t at) {
        auto references = references_to(live.get(), extent, at, file());
        std::sort(references.begin(), references.end());
        return references;
    };
    const std::uint64_t ino = ino_of(file());
    const std::uint64_t copy = ino_of(*this / "copy");
    EXPECT_EQ(referring(4 * kKiB), (std::vector<ExtentReference>{{here, ino, 4 * kKiB}, {there, ino, 4 * kKiB}}));
    EXPECT_EQ(referring(516 * kKiB),
              (std::vector<ExtentReference>{
                  {here, ino, 516 * kKiB}, {here, copy, 20 * kKiB}, {there, ino, 516 * kKiB}, {there, copy, 20 * kKiB}}));
    FileExtent nowhere = extent;
    nowhere.disk_address = 3 * kBlock;
    EXPECT_TRUE(references_to(live.get(), nowhere, 0, file()).empty());
    test::FaultHooks hooks;
    hooks.fail_nth(1, EIO, false, "logical_ino");
    EXPECT_THROW(references_to(live.get(), extent, 0, file()), Error);
}

TEST_F(BtrfsChangesTest, NeighboursOfOneKindAreOneStretch) {
    write_at(file(), 0, kMiB);
    const auto touch = [&] {
        for (std::uint64_t i = 0; i < 8; ++i) {
            write_at(file(), i * kBlock, kBlock, 'x');
            sync_path(file());  // an extent each
        }
        punch(file(), 8 * kBlock, 4 * kBlock);
        punch(file(), 12 * kBlock, 4 * kBlock);
        write_at(file(), 20 * kBlock, kBlock, 'x');
    };
    EXPECT_EQ(changes_by(touch),
              (Stretches{{Kind::kData, 0, 8 * kBlock}, {Kind::kHole, 8 * kBlock, 8 * kBlock}, {Kind::kData, 20 * kBlock, kBlock}}));
}

TEST_F(BtrfsChangesTest, SameExtentInOtherPiecesIsUnchanged) {
    write_at(file(), 0, kMiB);
    ASSERT_EQ(extents_of(file()).size(), 1u);
    clone_range(file(), 0, kMiB, *this / "copy", 0);
    const auto rejoin = [&] {
        // Back to where it was, in pieces.
        punch(file(), 0, 256 * kKiB);
        clone_range(*this / "copy", 0, 64 * kKiB, file(), 0);
        clone_range(*this / "copy", 128 * kKiB, 64 * kKiB, file(), 128 * kKiB);
        // And what is elsewhere in the same extent.
        clone_range(*this / "copy", 0, 64 * kKiB, file(), 512 * kKiB);
        EXPECT_GT(extents_of(file()).size(), 4u);
    };
    EXPECT_EQ(changes_by(rejoin),
              (Stretches{{Kind::kHole, 64 * kKiB, 64 * kKiB}, {Kind::kHole, 192 * kKiB, 64 * kKiB}, {Kind::kData, 512 * kKiB, 64 * kKiB}}));
}

// Alike in all but their address.
TEST_F(BtrfsChangesTest, OtherExtentOfTheSameTransactionDiffers) {
    write_at(file(), 0, 64 * kKiB, 'a');
    write_at(*this / "other", 0, 64 * kKiB, 'b');
    sync_file_system(open_file(mount_->path(), O_RDONLY).get(), mount_->path());
    const auto before = extents_of(file());
    EXPECT_EQ(changes_by([&] { clone_range(*this / "other", 0, 64 * kKiB, file(), 0); }), (Stretches{{Kind::kData, 0, 64 * kKiB}}));
    const auto after = extents_of(file());
    ASSERT_EQ(after.size(), 1u);
    EXPECT_EQ(after[0].generation, before.at(0).generation);
    EXPECT_EQ(after[0].disk_length, before.at(0).disk_length);
}

TEST_F(BtrfsChangesTest, UnwrittenIsTheSameWhereverItLies) {
    allocate(file(), 0, 0, kMiB);
    const auto before = extents_of(file());
    const auto again = [&] {
        punch(file(), 0, 512 * kKiB);
        allocate(*this / "in the place that is free now", 0, 0, 512 * kKiB);
        allocate(file(), 0, 0, 512 * kKiB);
        write_at(file(), 768 * kKiB, kBlock);
    };
    EXPECT_EQ(changes_by(again), (Stretches{{Kind::kData, 768 * kKiB, kBlock}}));
    EXPECT_NE(extents_of(file()).at(0).disk_address, before.at(0).disk_address);
}

TEST_F(BtrfsChangesTest, FromTheGivenOffsetOnAllIsChanged) {
    write_at(file(), 0, kMiB);
    allocate(file(), FALLOC_FL_KEEP_SIZE, kMiB, kMiB);
    const auto nothing = [] {};
    EXPECT_EQ(changes_by(nothing, 512 * kKiB),
              (Stretches{{Kind::kData, 512 * kKiB, 512 * kKiB}, {Kind::kUnwritten, kMiB, kMiB}, {Kind::kHole, 2 * kMiB, 2 * kMiB}}));
    EXPECT_EQ(changes_by(nothing, 512 * kKiB, 768 * kKiB), (Stretches{{Kind::kData, 512 * kKiB, 256 * kKiB}}));
    EXPECT_EQ(changes_by(nothing, 0, 0), Stretches{});
    EXPECT_EQ(changes_by(nothing, 3 * kMiB, UINT64_MAX / 2), (Stretches{{Kind::kHole, 3 * kMiB, UINT64_MAX / 2 - 3 * kMiB}}));
    // A file that got shorter, and lost what was allocated beyond its end; then longer again, by a hole.
    EXPECT_EQ(changes_by([&] { resize(file(), 512 * kKiB); }), (Stretches{{Kind::kHole, 512 * kKiB, kMiB + 512 * kKiB}}));
    EXPECT_EQ(changes_by([&] { resize(file(), 3 * kMiB); }, 512 * kKiB, 3 * kMiB),
              (Stretches{{Kind::kHole, 512 * kKiB, 2 * kMiB + 512 * kKiB}}));
}

TEST_F(BtrfsChangesTest, InodeThatIsMissingIsAHole) {
    const Snapshot parent = snapshot();
    write_at(file(), 64 * kKiB, 64 * kKiB);
    const Snapshot now = snapshot();
    const std::uint64_t ino = ino_of(file());
    EXPECT_EQ(changes_of(parent, now, ino, kNever, kMiB), (Stretches{{Kind::kData, 64 * kKiB, 64 * kKiB}}));
    EXPECT_EQ(changes_of(now, parent, ino, kNever, kMiB), (Stretches{{Kind::kHole, 64 * kKiB, 64 * kKiB}}));
    EXPECT_EQ(changes_of(parent, parent, ino, kNever, kMiB), Stretches{});
}

TEST_F(BtrfsChangesTest, InlineExtentsAreComparedByTheirBytes) {
    const auto put = [&](char with) { return [this, with] { pwrite_all(open_file(file()).get(), filled(100, with), 0, file()); }; };
    put('a')();
    ASSERT_EQ(extents_of(file()).at(0).kind, FileExtent::Kind::kInline);
    EXPECT_EQ(changes_by(put('b')), (Stretches{{Kind::kData, 0, kBlock}}));
    EXPECT_EQ(changes_by(put('b')), Stretches{});
    EXPECT_EQ(changes_by([&] { write_at(file(), 100, 1, 'b'); }), (Stretches{{Kind::kData, 0, kBlock}}));
    EXPECT_EQ(changes_by([&] { resize(file(), 50); }), (Stretches{{Kind::kData, 0, kBlock}}));
    EXPECT_EQ(changes_by([&] { write_at(file(), kMiB, 10); }), (Stretches{{Kind::kData, 0, kBlock}, {Kind::kData, kMiB, kBlock}}));
    EXPECT_EQ(changes_by([&] { resize(file(), 0); }), (Stretches{{Kind::kHole, 0, kBlock}, {Kind::kHole, kMiB, kBlock}}));
}

TEST_F(BtrfsChangesTest, PartsOfACompressedExtentAreTold) {
    open_file(file());
    ASSERT_TRUE(set_inode_flags(open_file(file()).get(), FS_COMPR_FL));
    write_at(file(), 0, 512 * kKiB);
    sync_path(file());
    const auto extents = extents_of(file());
    ASSERT_EQ(extents.size(), 4u);  // of 128 KiB each
    EXPECT_NE(extents[0].compression, 0);
    EXPECT_LT(extents[0].disk_length, extents[0].length);
    EXPECT_EQ(changes_by([&] { clone_range(file(), 32 * kKiB, 32 * kKiB, file(), 160 * kKiB); }),
              (Stretches{{Kind::kData, 160 * kKiB, 32 * kKiB}}));
    EXPECT_EQ(changes_by([&] { punch(file(), 300 * kKiB, 8 * kKiB); }), (Stretches{{Kind::kHole, 300 * kKiB, 8 * kKiB}}));
}

TEST_F(BtrfsChangesTest, ExtentsAreToldFromTheMiddleOfOneOn) {
    write_at(file(), 0, kMiB);
    allocate(file(), FALLOC_FL_KEEP_SIZE, 2 * kMiB, kMiB);
    const std::uint64_t far = std::uint64_t{40} << 30;
    write_at(file(), far, kMiB);
    const auto all = extents_of(file());
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].offset, 0u);
    EXPECT_EQ(all[0].length, kMiB);
    EXPECT_EQ(all[0].disk_length, kMiB);
    EXPECT_EQ(all[1].kind, FileExtent::Kind::kUnwritten);
    EXPECT_EQ(all[2].offset, far);
    const auto first_from = [&](std::uint64_t from) {
        const auto extents = extents_of(file(), from);
        return extents.empty() ? kNever : extents[0].offset;
    };
    EXPECT_EQ(first_from(kMiB - 1), 0u);
    EXPECT_EQ(first_from(kMiB), 2 * kMiB);
    EXPECT_EQ(first_from(2 * kMiB + 5), 2 * kMiB);
    EXPECT_EQ(first_from(3 * kMiB), far);
    EXPECT_EQ(first_from(far + kMiB - 1), far);
    EXPECT_EQ(first_from(far + kMiB), kNever);
}

TEST_F(BtrfsChangesTest, ManyExtentsAreAllCompared) {
    constexpr std::uint64_t kExtents = 3000;
    for (std::uint64_t i = 0; i < kExtents; ++i) {
        write_at(file(), i * 2 * kBlock, kBlock);
    }
    Stretches expected;
    const auto touch = [&] {
        for (std::uint64_t i = 0; i < kExtents; i += 7) {
            write_at(file(), i * 2 * kBlock, kBlock, 'x');
            expected.push_back({Kind::kData, i * 2 * kBlock, kBlock});
        }
    };
    const Stretches found = changes_by(touch, kNever, kExtents * 2 * kBlock);
    EXPECT_EQ(found, expected);
}

// Balances the data at the nth search from now on.
class BalanceAtSearch : public test::FaultHooks {
public:
    BalanceAtSearch(std::string mount, int nth) : mount_(std::move(mount)), left_(nth) {}
    int on_operation(const char* operation) noexcept override {
        if (std::string(operation) == "tree_search" && --left_ == 0) {
            balanced_ = std::system(("btrfs balance start -d " + mount_ + " > /dev/null").c_str()) == 0;
        }
        return test::FaultHooks::on_operation(operation);
    }
    bool balanced() const { return balanced_; }

private:
    const std::string mount_;
    int left_;
    bool balanced_ = false;
};

// What was moved between two looks may be elsewhere by now, and something else where it was.
TEST_F(BtrfsChangesTest, WhatIsMovedWhileItIsComparedCountsAsChanged) {
    write_at(file(), 0, kMiB);
    sync_path(file());
    const Snapshot parent = snapshot();
    const Snapshot now = snapshot();
    for (const int search : {3, 5}) {  // the parent's, and the snapshot's again; each ends with one that finds nothing
        const BalanceAtSearch hooks(mount_->path(), search);
        EXPECT_EQ(changes_of(parent, now, ino_of(now / "file"), kNever, kMiB), (Stretches{{Kind::kData, 0, kMiB}})) << search;
        EXPECT_TRUE(hooks.balanced());
    }
    EXPECT_EQ(changes_of(parent, now, ino_of(now / "file"), kNever, kMiB), Stretches{});
}

TEST_F(BtrfsChangesTest, BalanceTellsWhenItPutsAnExtentElsewhere) {
    write_at(file(), 0, kMiB);
    sync_path(file());
    const FileDescriptor live = open_file(*this / "", O_RDONLY);
    const auto placed = [&] {
        const FileExtent extent = extents_of(file()).at(0);
        return placed_by(live.get(), extent.disk_address, extent.disk_length, file()).value();
    };
    const std::uint64_t written_by = extents_of(file()).at(0).generation;
    EXPECT_EQ(placed(), written_by);
    const std::uint64_t before = current_transaction(live.get());
    EXPECT_GE(before, written_by);
    ASSERT_EQ(std::system(("btrfs balance start -d " + mount_->path() + " > /dev/null").c_str()), 0);
    EXPECT_GE(placed(), before);
    EXPECT_EQ(extents_of(file()).at(0).generation, written_by) << "the piece doesn't tell";
    EXPECT_FALSE(placed_by(live.get(), 3 * kBlock, kBlock, file()));
}

TEST_F(BtrfsChangesTest, ToBeginInTheMiddleCostsAFewSearches) {
    constexpr std::uint64_t kExtents = 4000;
    for (std::uint64_t i = 0; i < kExtents; ++i) {
        write_at(file(), i * 3 * kBlock, 2 * kBlock);
    }
    write_at(file(), 600 * kMiB, kMiB);
    write_at(file(), 700 * kMiB, kBlock);
    sync_path(file());
    commit(open_file(mount_->path(), O_RDONLY).get(), mount_->path());
    const FileDescriptor subvolume = open_file(*this / "", O_RDONLY);
    const std::uint64_t ino = ino_of(file());
    const auto first_from = [&](std::uint64_t from) {
        const test::FaultHooks hooks;
        FileExtents extents(subvolume.get(), ino, from, file());
        FileExtent extent;
        const bool any = extents.next(extent);
        EXPECT_LE(hooks.count("tree_search"), 5U) << from;
        return any ? extent.offset : UINT64_MAX;
    };
    constexpr std::uint64_t kAt = 3900 * 3 * kBlock;
    EXPECT_EQ(first_from(kAt), kAt);
    EXPECT_EQ(first_from(kAt + kBlock), kAt) << "it covers that";
    EXPECT_EQ(first_from(kAt + 2 * kBlock), kAt + 3 * kBlock) << "a hole";
    EXPECT_EQ(first_from(600 * kMiB + 512 * kKiB), 600 * kMiB);
    EXPECT_EQ(first_from(650 * kMiB), 700 * kMiB);
    EXPECT_EQ(first_from(700 * kMiB + kBlock), UINT64_MAX);
}

TEST_F(BtrfsChangesTest, FailureOnEitherSideIsAnError) {
    write_at(file(), 0, kMiB);
    const Snapshot now = snapshot();
    test::FaultHooks hooks;
    hooks.fail_nth(2, EIO, false, "tree_search");  // the parent's
    FileChanges changes(now.fd.get(), now.fd.get(), ino_of(now / "file"), kNever, kMiB, now.path);
    ChangedStretch stretch;
    EXPECT_THROW(changes.next(stretch), Error);
}

}  // namespace
}  // namespace nodesnap::btrfs
