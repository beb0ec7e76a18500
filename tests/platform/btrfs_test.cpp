#include "platform/btrfs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::btrfs {
namespace {

namespace fs = std::filesystem;

class BtrfsTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs");
    }
    FileDescriptor directory(const std::string& path) { return open_path(path, O_RDONLY | O_DIRECTORY); }
    std::string operator/(const std::string& name) const { return *mount_ / name; }
    void subvolume(const std::string& path) {
        const fs::path made(path);
        create_subvolume(directory(made.parent_path()).get(), made.filename());
    }
    std::unique_ptr<test::LoopMount> mount_;
};

TEST_F(BtrfsTest, SubvolumesAreToldFromFolders) {
    subvolume(*this / "s");
    fs::create_directories(*this / "s/folder");
    EXPECT_TRUE(is_btrfs(*this / "s"));
    EXPECT_FALSE(is_btrfs("/proc"));
    EXPECT_TRUE(is_subvolume(directory(*this / "s").get()));
    EXPECT_TRUE(is_subvolume(directory(mount_->path()).get()));
    EXPECT_FALSE(is_subvolume(directory(*this / "s/folder").get()));
    EXPECT_FALSE(is_subvolume(directory("/proc").get()));
    EXPECT_EQ(subvolume_id(directory(mount_->path()).get()), kTopLevelId);
    EXPECT_EQ(subvolume_id(directory(*this / "s/folder").get()), subvolume_info(directory(*this / "s").get()).id);
}

TEST_F(BtrfsTest, SnapshotIsFrozenAndKnowsItsOrigin) {
    subvolume(*this / "s");
    write_file_durably(*this / "s/file", "before");
    const FileDescriptor top = directory(mount_->path());
    create_snapshot(directory(*this / "s").get(), top.get(), "snap \xff", true);
    write_file_durably(*this / "s/file", "after");
    EXPECT_EQ(read_small_file(*this / "snap \xff/file"), "before");
    EXPECT_THROW(write_file_durably(*this / "snap \xff/file", "x"), Error);

    const SubvolumeInfo origin = subvolume_info(directory(*this / "s").get());
    const SubvolumeInfo snapshot = subvolume_info(directory(*this / "snap \xff").get());
    EXPECT_TRUE(snapshot.read_only);
    EXPECT_FALSE(origin.read_only);
    EXPECT_EQ(snapshot.parent_uuid, origin.uuid);
    EXPECT_NE(snapshot.uuid, origin.uuid);
    EXPECT_EQ(snapshot.parent_id, kTopLevelId);
    EXPECT_GT(snapshot.otransid, origin.otransid);
    EXPECT_GT(snapshot.created_ns, 1'500'000'000'000'000'000);

    delete_subvolume(top.get(), "snap \xff");
    EXPECT_FALSE(stat_path(*this / "snap \xff"));
    try {
        delete_subvolume(top.get(), "snap \xff");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.error_number(), ENOENT);
    }
}

TEST_F(BtrfsTest, ReadOnlyFlagChanges) {
    subvolume(*this / "s");
    const FileDescriptor fd = directory(*this / "s");
    set_read_only(fd.get(), true);
    EXPECT_TRUE(subvolume_info(fd.get()).read_only);
    set_read_only(fd.get(), false);
    EXPECT_FALSE(subvolume_info(fd.get()).read_only);
}

TEST_F(BtrfsTest, PlaceIsFoundInEveryLayout) {
    subvolume(*this / "s");
    fs::create_directories(*this / "s/a/b");
    EXPECT_EQ(subvolume_root_of(*this / "s/a/b"), *this / "s");
    EXPECT_EQ(place_of(*this / "s/a/b").inside, "a/b");
    EXPECT_EQ(place_of(*this / "s").inside, "");
    EXPECT_EQ(place_of(*this / "s").subvolume_root, *this / "s");
    write_file_durably(*this / "s/a/file", "");
    EXPECT_EQ(subvolume_root_of(*this / "s/a/file"), *this / "s");

    const std::string whole = mount_->mount_again("subvol=s");
    EXPECT_EQ(place_of(whole + "/a/b").subvolume_root, whole);
    EXPECT_EQ(place_of(whole + "/a/b").inside, "a/b");

    // Only a folder of the subvolume is mounted: its root isn't above, whatever the names say.
    const std::string bound = *this / "bound";
    fs::create_directory(bound);
    test::run({"mount", "--bind", *this / "s/a", bound});
    EXPECT_EQ(place_of(bound + "/b").subvolume_root, "");
    EXPECT_EQ(place_of(bound + "/b").inside, "a/b");
    EXPECT_EQ(place_of(bound).inside, "a");
    EXPECT_THROW(subvolume_root_of(bound + "/b"), Error);
    test::run({"umount", bound});
}

TEST_F(BtrfsTest, NestedSubvolumesAreListedBelowADirectoryOnly) {
    subvolume(*this / "s");
    fs::create_directories(*this / "s/node/data");
    fs::create_directories(*this / "s/node2");
    subvolume(*this / "s/node/data/one");
    fs::create_directories(*this / "s/node/data/one/x");
    subvolume(*this / "s/node/data/one/x/deeper");
    subvolume(*this / "s/node2/elsewhere");
    subvolume(*this / "s/top");
    using Names = std::vector<std::string>;
    EXPECT_EQ(nested_subvolumes_below(*this / "s/node"), (Names{"data/one", "data/one/x/deeper"}));
    EXPECT_EQ(nested_subvolumes_below(*this / "s"), (Names{"node/data/one", "node/data/one/x/deeper", "node2/elsewhere", "top"}));
    EXPECT_EQ(nested_subvolumes_below(*this / "s/top"), Names{});
    const std::string whole = mount_->mount_again("subvol=s");
    EXPECT_EQ(nested_subvolumes_below(whole + "/node"), (Names{"data/one", "data/one/x/deeper"}));
}

TEST_F(BtrfsTest, TopLevelIsReachedWithoutLeavingAMount) {
    subvolume(*this / "s");
    const std::string whole = mount_->mount_again("subvol=s");
    // Of this file system: other tests mount theirs meanwhile.
    const std::string source = mount_of(whole).source;
    const auto count_mounts = [&] {
        const auto all = list_mounts();
        return std::count_if(all.begin(), all.end(), [&](const Mount& mount) { return mount.source == source; });
    };
    const auto mounts = count_mounts();
    {
        const FileDescriptor top = open_top_level(whole);
        EXPECT_TRUE(stat_at(top.get(), "s"));
        ASSERT_EQ(::mkdirat(top.get(), "made", 0700), 0);
        const FileDescriptor readable = open_at(top.get(), ".", O_RDONLY | O_DIRECTORY);
        create_snapshot(directory(whole).get(), readable.get(), "snap", true);
        EXPECT_EQ(count_mounts(), mounts);
    }
    EXPECT_TRUE(fs::is_directory(*this / "made"));
    EXPECT_TRUE(subvolume_info(directory(*this / "snap").get()).read_only);
    EXPECT_EQ(count_mounts(), mounts);
}

TEST_F(BtrfsTest, TopLevelOfAReadOnlyFileSystemIsReached) {
    subvolume(*this / "s");
    mount_->remount("ro");
    EXPECT_TRUE(stat_at(open_top_level(*this / "s").get(), "s"));
}

TEST_F(BtrfsTest, PathsAndMountsOfSubvolumesAreFound) {
    fs::create_directory(*this / "folder");
    subvolume(*this / "folder/s");
    const FileDescriptor fd = directory(*this / "folder/s");
    EXPECT_EQ(subvolume_path(fd.get(), subvolume_id(fd.get())), "folder/s");
    EXPECT_EQ(subvolume_path(fd.get(), kTopLevelId), "");
    EXPECT_EQ(find_mounted(fs_uuid(fd.get())), mount_->path());
    EXPECT_EQ(find_mounted("00000000-0000-0000-0000-000000000000"), "");
}

TEST_F(BtrfsTest, ASubvolumeIsFoundByItsUuidWhereverItLies) {
    fs::create_directory(*this / "folder");
    subvolume(*this / "folder/s");
    const SubvolumeInfo info = subvolume_info(directory(*this / "folder/s").get());
    const FileDescriptor top = directory(mount_->path());
    EXPECT_EQ(find_subvolume(top.get(), info.uuid), info.id);
    fs::rename(*this / "folder/s", *this / "moved");
    EXPECT_EQ(find_subvolume(top.get(), info.uuid), info.id);
    delete_subvolume(top.get(), "moved");
    EXPECT_EQ(find_subvolume(top.get(), info.uuid), std::nullopt);
}

}  // namespace
}  // namespace nodesnap::btrfs
