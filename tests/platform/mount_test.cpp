#include "platform/mount.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <string>
#include <vector>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/mount_namespaces.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

TEST(Mountinfo, LineIsTakenApart) {
    const auto mounts = parse_mountinfo(
        "36 35 98:5 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n"
        "37 36 0:40 /a\\040b /with\\040space\\012newline\\134back\\011tab ro,relatime - fuse.x source\\040name rw\n"
        "38 36 0:41 / /frozen rw - btrfs /dev/sda ro,space_cache\n"
        "39 36 0:42 / /both rw shared:7 master:8 - btrfs /dev/sda rw\n");
    ASSERT_EQ(mounts.size(), 4u);
    EXPECT_EQ(std::pair(mounts[0].shared, mounts[0].master), std::pair(std::uint64_t{0}, std::uint64_t{1}));
    EXPECT_EQ(std::pair(mounts[2].shared, mounts[2].master), std::pair(std::uint64_t{0}, std::uint64_t{0}));
    EXPECT_EQ(std::pair(mounts[3].shared, mounts[3].master), std::pair(std::uint64_t{7}, std::uint64_t{8}));
    EXPECT_EQ(mounts[0].id, 36u);
    EXPECT_EQ(mounts[0].parent_id, 35u);
    EXPECT_EQ(mounts[0].device, makedev(98, 5));
    EXPECT_EQ(mounts[0].root, "/mnt1");
    EXPECT_EQ(mounts[0].mount_point, "/mnt2");
    EXPECT_EQ(mounts[0].type, "ext3");
    EXPECT_EQ(mounts[0].source, "/dev/root");
    EXPECT_EQ(mounts[0].super_options, "rw,errors=continue");
    EXPECT_FALSE(mounts[0].read_only);
    EXPECT_EQ(mounts[1].root, "/a b");
    EXPECT_EQ(mounts[1].mount_point, "/with space\nnewline\\back\ttab");
    EXPECT_EQ(mounts[1].source, "source name");
    EXPECT_TRUE(mounts[1].read_only);
    EXPECT_TRUE(mounts[2].read_only);
}

TEST(Mountinfo, GarbageGivesNothing) {
    EXPECT_TRUE(parse_mountinfo("").empty());
    EXPECT_TRUE(parse_mountinfo("\n\nx\n1 2 3\n\\0").empty());
}

TEST(MountTest, RootsAndMountsBelowAreFound) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount outer("ext4", 64 << 20);
    const std::string odd = outer / "odd \n\\ name";
    fs::create_directories(odd);
    fs::create_directories(outer / "odd");
    EXPECT_TRUE(is_mount_root(outer.path()));
    EXPECT_FALSE(is_mount_root(odd));
    EXPECT_EQ(mount_of(odd).mount_point, outer.path());
    EXPECT_EQ(mount_of(odd).source, outer.device());
    EXPECT_EQ(mount_of(odd).type, "ext4");
    EXPECT_TRUE(mounts_below(outer.path()).empty());

    test::run({"mount", "-t", "tmpfs", "tmpfs", odd});
    EXPECT_TRUE(is_mount_root(odd));
    const auto below = mounts_below(outer.path());
    ASSERT_EQ(below.size(), 1u);
    EXPECT_EQ(below[0].mount_point, odd);
    EXPECT_EQ(below[0].type, "tmpfs");
    EXPECT_TRUE(mounts_below(outer / "odd").empty()) << "a name that begins alike isn't below";
    test::run({"umount", odd});
    EXPECT_THROW(mount_of(outer / "nothing"), Error);
}

TEST(MountTest, WhatIsMountedUponAFileSystemIsSeenInAllNamespaces) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount mount("ext4", 64 << 20);
    fs::create_directories(mount / "here");
    fs::create_directories(mount / "there");
    const auto names_below = [&] {
        std::vector<std::string> names;
        for (const SeenMount& seen : mounts_upon_in_all_namespaces(mount_of(mount.path()))) {
            EXPECT_EQ(seen.parent.device, mount_of(mount.path()).device);
            EXPECT_EQ(seen.mount.type, "tmpfs");
            names.push_back((seen.pid == 0 ? "" : std::to_string(seen.pid) + ":") + fs::path(seen.mount.mount_point).filename().string());
        }
        return names;
    };
    EXPECT_TRUE(names_below().empty());
    test::run({"mount", "-t", "tmpfs", "tmpfs", mount / "here"});
    EXPECT_EQ(names_below(), std::vector<std::string>{"here"});
    test::run({"umount", mount / "here"});
    {
        const test::HolderProcess other([&] {
            return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                   ::mount("tmpfs", (mount / "there").c_str(), "tmpfs", 0, nullptr) == 0;
        });
        EXPECT_EQ(names_below(), std::vector<std::string>{std::to_string(other.pid()) + ":there"});
    }
}

TEST(MountTest, TopmostOfStackedMountsCounts) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount mount("ext4", 64 << 20);
    test::run({"mount", "-t", "tmpfs", "tmpfs", mount.path()});
    EXPECT_EQ(mount_of(mount.path()).type, "tmpfs");
    test::run({"umount", mount.path()});
    EXPECT_EQ(mount_of(mount.path()).type, "ext4");
}

TEST(MountTest, BindMountOfTheSameFileSystemIsARoot) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount mount("ext4", 64 << 20);
    fs::create_directories(mount / "a/b");
    fs::create_directories(mount / "c");
    test::run({"mount", "--bind", mount / "a", mount / "c"});
    EXPECT_TRUE(is_mount_root(mount / "c"));
    EXPECT_EQ(mount_of(mount / "c/b").root, "/a");
    EXPECT_FALSE(is_mount_root(mount / "a"));
    test::run({"umount", mount / "c"});
}

class FileSystemTest : public testing::TestWithParam<const char*> {};

TEST_P(FileSystemTest, TypeSpaceAndUuidAreTold) {
    NODESNAP_NEEDS_LOOP_MOUNT(GetParam());
    test::LoopMount mount(GetParam());
    const FileSystem system = file_system_of(mount.path());
    EXPECT_EQ(system.type, GetParam());
    EXPECT_GT(system.total_bytes, 100u << 20);
    EXPECT_LE(system.total_bytes, 512u << 20);
    EXPECT_GT(system.free_bytes, 10u << 20);
    EXPECT_LE(system.free_bytes, system.total_bytes);
    EXPECT_EQ(system.block_bytes, 4096u);
    EXPECT_FALSE(system.read_only);

    std::string uuid = test::run({"blkid", "-p", "-o", "value", "-s", "UUID", mount.device()});
    uuid.pop_back();
    EXPECT_EQ(file_system_uuid_of(mount.path()), uuid);
    write_file_durably(mount / "file", "x");
    EXPECT_EQ(file_system_uuid_of(mount / "file"), uuid);

    mount.remount("ro");
    EXPECT_TRUE(file_system_of(mount.path()).read_only);
    EXPECT_TRUE(mount_of(mount.path()).read_only);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, FileSystemTest, testing::Values("btrfs", "ext4", "xfs"),
                         [](const auto& file_system) { return std::string(file_system.param); });

TEST(FileSystem, WithoutUuidAFallbackIsStable) {
    const std::string uuid = file_system_uuid_of("/proc");
    EXPECT_FALSE(uuid.empty());
    EXPECT_EQ(uuid, file_system_uuid_of("/proc/self"));
}

}  // namespace
}  // namespace nodesnap
