// What a snapshot is said to hold, against what the file system really gets back when it is removed.
#include "platform/btrfs_space.h"

#include <sys/statvfs.h>

#include <filesystem>

#include "tests/platform/btrfs_tree_fixture.h"

namespace nodesnap::btrfs {
namespace {

namespace fs = std::filesystem;

class HeldSpaceTest : public BtrfsTreeTest {
protected:
    std::uint64_t held(const Snapshot& snapshot) {
        const FileDescriptor subvolume = open_file(*this / "", O_RDONLY);
        sync_file_system(subvolume.get(), "s");
        return held_space(snapshot.fd.get(), subvolume.get(), snapshot.path).alone_bytes;
    }
    std::uint64_t free_bytes() const {
        const FileDescriptor top = open_file(mount_->path(), O_RDONLY);
        sync_file_system(top.get(), "top");
        struct statvfs status {};
        must(::fstatvfs(top.get(), &status), "statvfs");
        return static_cast<std::uint64_t>(status.f_bfree) * status.f_frsize;
    }
    // Removes it, and waits for the space.
    std::uint64_t freed_by(Snapshot& snapshot) {
        const std::uint64_t before = free_bytes();
        const FileDescriptor top = open_file(mount_->path(), O_RDONLY);
        snapshot.fd.reset();
        delete_subvolume(top.get(), fs::path(snapshot.path).filename());
        commit(top.get(), "top");
        wait_until_cleaned(top.get(), snapshot.info.id, "top");
        const std::uint64_t after = free_bytes();
        return after > before ? after - before : 0;
    }
    // The trees aren't counted: those of these few files take some nodes of 16 KiB, and new ones are written meanwhile.
    static constexpr double kTrees = 512.0 * kKiB;
    void expect_true(Snapshot& snapshot, std::uint64_t expected) {
        const std::uint64_t told = held(snapshot);
        EXPECT_EQ(told, expected);
        EXPECT_NEAR(static_cast<double>(freed_by(snapshot)), static_cast<double>(told), kTrees);
    }
};

TEST_F(HeldSpaceTest, NothingWhenNothingHasChanged) {
    write_at(*this / "a", 0, 8 * kMiB);
    Snapshot only = snapshot();
    expect_true(only, 0);
}

TEST_F(HeldSpaceTest, OverwrittenTruncatedAndRemovedFiles) {
    for (const char* const name : {"overwritten", "cut", "removed", "stays", "renamed"}) {
        write_at(*this / name, 0, 8 * kMiB);
        sync_path(*this / name);
    }
    fs::create_directories(*this / "gone/deep/deeper");
    write_at(*this / "gone/deep/deeper/file", 0, 4 * kMiB);
    write_at(*this / "gone/moved", 0, 4 * kMiB);
    fs::create_hard_link(*this / "gone/deep/deeper/file", *this / "gone/second_name");
    Snapshot only = snapshot();
    write_at(*this / "overwritten", 0, 8 * kMiB, 7);
    resize(*this / "cut", 0);
    fs::remove(*this / "removed");
    fs::rename(*this / "renamed", *this / "other");
    fs::rename(*this / "gone/moved", *this / "moved");
    fs::remove_all(*this / "gone");
    expect_true(only, 28 * kMiB);
}

TEST_F(HeldSpaceTest, WhatAnotherSnapshotHasIsNotHeldAlone) {
    write_at(*this / "both", 0, 8 * kMiB);
    Snapshot first = snapshot();
    write_at(*this / "second", 0, 4 * kMiB);
    Snapshot second = snapshot();
    fs::remove(*this / "both");
    fs::remove(*this / "second");
    EXPECT_EQ(held(first), 0U);
    const FileDescriptor subvolume = open_file(*this / "", O_RDONLY);
    const HeldSpace space = held_space(first.fd.get(), subvolume.get(), first.path);
    EXPECT_EQ(space.shared_bytes, 8 * kMiB);
    EXPECT_FALSE(space.shares_within);
    expect_true(second, 4 * kMiB);
    expect_true(first, 8 * kMiB);
}

TEST_F(HeldSpaceTest, AnExtentIsHeldUntilItsLastPieceIsGone) {
    write_at(*this / "a", 0, 8 * kMiB);
    sync_path(*this / "a");
    Snapshot only = snapshot();
    fs::create_directories(*this / "new");
    clone_range(*this / "a", 0, 8 * kMiB, *this / "clone", 0);
    fs::remove(*this / "a");
    expect_true(only, 0);
}

TEST_F(HeldSpaceTest, WhatFilesOfItShareMayComeFreeWithIt) {
    write_at(*this / "a", 0, 8 * kMiB);
    sync_path(*this / "a");
    clone_range(*this / "a", 0, 8 * kMiB, *this / "clone", 0);
    sync_path(*this / "clone");
    Snapshot only = snapshot();
    fs::remove(*this / "a");
    fs::remove(*this / "clone");
    EXPECT_EQ(held(only), 0U);
    const FileDescriptor subvolume = open_file(*this / "", O_RDONLY);
    const HeldSpace space = held_space(only.fd.get(), subvolume.get(), only.path);
    EXPECT_TRUE(space.shares_within);
    EXPECT_EQ(space.shared_bytes, 8 * kMiB);
    EXPECT_NEAR(static_cast<double>(freed_by(only)), 8.0 * kMiB, kTrees);
}

TEST_F(HeldSpaceTest, AllOfItWhenAnotherSubvolumeHasTakenThePlace) {
    write_at(*this / "d", 0, 4 * kMiB);
    fs::create_directories(*this / "e/f");
    write_at(*this / "e/f/g", 0, 4 * kMiB);
    Snapshot only = snapshot();
    const FileDescriptor top = open_file(mount_->path(), O_RDONLY);
    delete_subvolume(top.get(), "s");
    create_subvolume(top.get(), "s");
    commit(top.get(), "top");
    expect_true(only, 8 * kMiB);
}

class HeldCompressedSpaceTest : public HeldSpaceTest {
protected:
    HeldCompressedSpaceTest() { mount_options_ = "compress-force=zlib"; }
};

TEST_F(HeldCompressedSpaceTest, StoredSizesCount) {
    write_at(*this / "a", 0, 32 * kMiB);
    Snapshot only = snapshot();
    fs::remove(*this / "a");
    const std::uint64_t told = held(only);
    EXPECT_GT(told, 0U);
    EXPECT_LT(told, 4 * kMiB);
    EXPECT_NEAR(static_cast<double>(freed_by(only)), static_cast<double>(told), kTrees);
}

}  // namespace
}  // namespace nodesnap::btrfs
