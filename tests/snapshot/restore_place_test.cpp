// Where a restore is put: subvolumes, roots of mounts, file systems that are too small or can't hold everything.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "platform/btrfs.h"
#include "snapshot/restore.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

class RestorePlaceTest : public RestoreTest {
protected:
    void fill() {
        fs::create_directories(node() / "data");
        for (int i = 0; i < 300; ++i) {
            write_file(node() / "data" / ("f" + std::to_string(i)), random_content(random_, static_cast<std::size_t>(i) * 50));
        }
        write_file(node() / "large", random_content(random_, 9U << 20));
        write_file(node() / "PG_VERSION", "15\n");
        write_file(node() / "CURRENT", "MANIFEST-1\n");
        fs::create_hard_link(node() / "large", node() / "data" / "large too");
        ASSERT_EQ(::chmod(node().c_str(), 0710), 0);
        const timespec times[2] = {{1'000'000'000, 1}, {1'000'000'000, 2}};
        ASSERT_EQ(::utimensat(AT_FDCWD, node().c_str(), times, 0), 0);
    }
    RestoreOptions options_to(const std::string& destination) const {
        auto options = RestoreTest::options();
        options.destination = destination;
        return options;
    }
    static std::map<std::string, std::string> picture_without_lost(const fs::path& root) {
        auto picture = picture_of(root);
        picture.erase("lost+found");
        return picture;
    }
    std::mt19937_64 random_{3};
};

TEST_F(RestorePlaceTest, OnBtrfsTheResultIsASubvolume) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    fill();
    const auto backup = back_up();
    const LoopMount mount("btrfs");
    EXPECT_EQ(restore(backup, options_to(mount / "fresh")).placed_as, "subvolume");
    fs::create_directory(mount / "empty");
    restore(backup, options_to(mount / "empty"));
    run({"btrfs", "subvolume", "create", mount / "subvolume"});
    restore(backup, options_to(mount / "subvolume"));
    for (const auto* name : {"fresh", "empty", "subvolume"}) {
        EXPECT_EQ(picture_of(mount / name), picture_of(node())) << name;
        const FileDescriptor fd(::open((mount / name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        EXPECT_TRUE(btrfs::is_subvolume(fd.get())) << name;
    }
    std::set<std::string> left;
    for (const auto& entry : fs::directory_iterator(mount.path())) {
        left.insert(entry.path().filename().string());
    }
    EXPECT_EQ(left, (std::set<std::string>{"fresh", "empty", "subvolume"}));
}

TEST_F(RestorePlaceTest, IntoTheRootOfAMountGateFilesLast) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    const auto backup = back_up();
    for (const auto* type : {"ext4", "btrfs"}) {
        const LoopMount mount(type);
        std::vector<std::string> order;
        FaultHooks hooks;
        const auto result = restore(backup, options_to(mount.path()));
        EXPECT_EQ(result.placed_as, "into the mount");
        EXPECT_EQ(picture_without_lost(mount.path()), picture_of(node())) << type;
    }
}

TEST_F(RestorePlaceTest, TheRootOfAMountIsReadyBeforeAnythingAppearsAndAllIsDurableBeforeTheGateFiles) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    fill();
    ASSERT_EQ(::chown(node().c_str(), 1234, 4321), 0);
    ASSERT_EQ(::lsetxattr(node().c_str(), "user.root", "value", 5, 0), 0);
    const auto backup = back_up();
    for (const auto* type : {"ext4", "btrfs"}) {
        const LoopMount mount(type);
        FaultHooks hooks;
        std::map<std::string, std::uint64_t> syncs;
        std::map<std::string, std::uint64_t> renames;
        hooks.on_each_step([&](const std::string& step) {
            if (step != "restore.root-prepared" && step != "restore.before-gates" && step != "restore.placed") {
                return;
            }
            struct stat root {};
            ASSERT_EQ(::stat(mount.path().c_str(), &root), 0);
            EXPECT_EQ(root.st_mode & 07777, 0710U) << step;
            EXPECT_EQ(root.st_uid, 1234U) << step;
            EXPECT_EQ(root.st_gid, 4321U) << step;
            EXPECT_EQ(::lgetxattr(mount.path().c_str(), "user.root", nullptr, 0), 5) << step;
            EXPECT_EQ(fs::exists(mount / "large"), step != "restore.root-prepared") << step;
            EXPECT_EQ(fs::exists(mount / "CURRENT"), step == "restore.placed") << step;
            EXPECT_EQ(fs::exists(mount / "PG_VERSION"), step == "restore.placed") << step;
            syncs[step] = std::min(hooks.count("syncfs"), hooks.count("fsync") / 2);
            renames[step] = hooks.count("rename");
        });
        restore(backup, options_to(mount.path()));
        ASSERT_EQ(syncs.size(), 3U);
        EXPECT_LT(syncs["restore.root-prepared"], syncs["restore.before-gates"]);
        EXPECT_LT(syncs["restore.before-gates"], syncs["restore.placed"]);
        EXPECT_LT(renames["restore.root-prepared"], renames["restore.before-gates"]);
        EXPECT_EQ(picture_without_lost(mount.path()), picture_of(node())) << type;
    }
}

TEST_F(RestorePlaceTest, CutOffWhileEntriesAreMovedItGoesOn) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    const auto backup = back_up();
    std::uint64_t renames = 0;
    {
        const LoopMount mount("ext4");
        FaultHooks hooks;
        restore(backup, options_to(mount.path()));
        renames = hooks.count("rename");
    }
    ASSERT_GT(renames, 4U);
    for (std::uint64_t nth = 1; nth <= renames; ++nth) {
        const LoopMount mount("ext4");
        {
            FaultHooks hooks;
            hooks.fail_nth(nth, EIO, true, "rename");
            ASSERT_NE(failure_of(backup, options_to(mount.path())), ExitStatus::kDone) << nth;
            const bool gates = fs::exists(mount / "CURRENT") && fs::exists(mount / "PG_VERSION");
            if (gates) {
                EXPECT_TRUE(fs::exists(mount / "data/f299") && fs::exists(mount / "large")) << nth;
            } else {
                EXPECT_FALSE(fs::exists(mount / "CURRENT") && !fs::exists(mount / "large")) << nth;
            }
        }
        EXPECT_EQ(failure_of(backup, options_to(mount.path())), ExitStatus::kDone) << nth << ": " << message_;
        EXPECT_EQ(picture_without_lost(mount.path()), picture_of(node())) << nth;
    }
}

TEST_F(RestorePlaceTest, AMountThatHoldsSomethingIsRefused) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    const auto backup = back_up();
    const LoopMount mount("ext4");
    write_file(mount / "mine", "keep");
    EXPECT_EQ(failure_of(backup, options_to(mount.path())), ExitStatus::kRefused);
    EXPECT_FALSE(fs::exists(mount / ".nodesnap-restore"));
}

TEST_F(RestorePlaceTest, ALostAndFoundInTheBackupJoinsTheOneThatIsThere) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    fs::create_directory(node() / "lost+found");
    write_file(node() / "lost+found" / "#123", "found");
    const auto backup = back_up();
    const LoopMount mount("ext4");
    restore(backup, options_to(mount.path()));
    EXPECT_EQ(read_file(mount / "lost+found/#123"), "found");
    EXPECT_EQ(read_file(mount / "CURRENT"), "MANIFEST-1\n");
}

TEST_F(RestorePlaceTest, ADiskThatFillsUpIsNamedAndTheNextRunGoesOn) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    write_file(node() / "larger", random_content(random_, 40U << 20));
    auto backup = back_up();
    const LoopMount mount("ext4", 64U << 20);
    struct statfs space {};
    ASSERT_EQ(::statfs(mount.path().c_str(), &space), 0);
    run({"fallocate", "-l", std::to_string(space.f_bavail * static_cast<std::uint64_t>(space.f_bsize) - (20U << 20)), mount / "ballast"});
    auto lies = backup;  // so that it isn't refused beforehand
    lies.totals = {};
    EXPECT_EQ(failure_of(lies, options_to(mount / "node")), ExitStatus::kFailed);
    EXPECT_NE(message_.find("No space"), std::string::npos) << message_;
    EXPECT_FALSE(fs::exists(mount / "node"));
    fs::remove(mount / "ballast");
    EXPECT_TRUE(restore(lies, options_to(mount / "node")).resumed);
    EXPECT_EQ(picture_of(mount / "node"), picture_of(node()));
}

TEST_F(RestorePlaceTest, WhatAnInterruptedRestoreHoldsIsSpaceForTheNextRun) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    write_file(node() / "larger", random_content(random_, 40U << 20));
    const auto backup = back_up();
    const LoopMount mount("ext4", 88U << 20);
    const auto options = options_to(mount / "node");
    {
        FaultHooks hooks;  // long before the first checkpoint
        hooks.fail_nth(30, EIO, true, "write");
        EXPECT_EQ(failure_of(backup, options), ExitStatus::kFailed);
    }
    struct statfs space {};
    ASSERT_EQ(::statfs(mount.path().c_str(), &space), 0);
    const auto free = space.f_bavail * static_cast<std::uint64_t>(space.f_bsize);
    auto dry = options;
    dry.dry_run = true;
    ASSERT_LT(free, restore(backup, dry).required_bytes) << "nothing to see here";
    EXPECT_TRUE(restore(backup, options).resumed);
    EXPECT_EQ(picture_of(mount / "node"), picture_of(node()));
}

TEST_F(RestorePlaceTest, SpaceIsCountedInBlocksAndHardLinksOnce) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    fs::create_directory(node() / "small");
    for (int i = 0; i < 1000; ++i) {
        write_file(node() / "small" / std::to_string(i), random_content(random_, 10));
    }
    fs::create_directory(node() / "linked");
    write_file(node() / "linked" / "first", random_content(random_, 10U << 20));
    for (int i = 0; i < 20; ++i) {
        fs::create_hard_link(node() / "linked" / "first", node() / "linked" / std::to_string(i));
    }
    const auto backup = back_up();
    const LoopMount ext4("ext4");
    const LoopMount btrfs("btrfs");
    const auto needs = [&](const std::string& destination, const std::vector<std::string>& paths) {
        auto dry = options_to(destination);
        dry.dry_run = true;
        dry.paths = paths;
        return restore(backup, dry).required_bytes;
    };
    constexpr std::uint64_t kMetadata = 1200 * 512;
    for (const auto& paths : {std::vector<std::string>{}, {"small", "linked"}}) {
        const auto rounded = needs(ext4 / "restored", paths);
        EXPECT_GE(rounded, (10U << 20) + 1000U * 4096);
        EXPECT_LE(rounded, (10U << 20) + 1010U * 4096 + kMetadata);
        const auto packed = needs(btrfs / "restored", paths);
        EXPECT_GE(packed, (10U << 20) + 1000U * 10);
        EXPECT_LE(packed, (10U << 20) + 1000U * 10 + kMetadata);
    }
    // Even one name of many takes all of the space.
    EXPECT_GE(needs(ext4 / "restored", {"linked/7"}), 10U << 20);
    // What doesn't fit is refused although its bytes would.
    const LoopMount little("ext4", 32U << 20, {"-b", "4096", "-N", "4000"});
    struct statfs space {};
    ASSERT_EQ(::statfs(little.path().c_str(), &space), 0);
    const auto free = space.f_bavail * static_cast<std::uint64_t>(space.f_bsize);
    run({"fallocate", "-l", std::to_string(free - (2U << 20)), little / "ballast"});
    auto small = options_to(little / "restored");
    small.paths = {"small"};
    EXPECT_EQ(failure_of(backup, small), ExitStatus::kRefused) << message_;
    EXPECT_FALSE(fs::exists(little / ".restored.nodesnap-restore"));
}

TEST_F(RestorePlaceTest, NothingIsInheritedFromTheDirectoryAbove) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    fill();
    const auto backup = back_up();
    for (const auto* type : {"btrfs", "ext4"}) {
        const LoopMount mount(type);
        fs::create_directory(mount / "above");
        // Default ACL: user::rwx, user:1234:rwx, group::r-x, mask::rwx, other::---
        const unsigned char acl[] = {2, 0,    0,    0,    1,    0,    7,  0, 0xff, 0xff, 0xff, 0xff, 2,    0,   7,
                                     0, 0xd2, 4,    0,    0,    4,    0,  5, 0,    0xff, 0xff, 0xff, 0xff, 16,  0,
                                     7, 0,    0xff, 0xff, 0xff, 0xff, 32, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};
        ASSERT_EQ(::setxattr((mount / "above").c_str(), "system.posix_acl_default", acl, sizeof acl, 0), 0);
        ASSERT_EQ(::chmod((mount / "above").c_str(), 02775), 0);
        ASSERT_EQ(::chown((mount / "above").c_str(), 0, 4321), 0);
        restore(backup, options_to(mount / "above/node"));
        EXPECT_EQ(picture_of(mount / "above/node"), picture_of(node())) << type;
        for (const auto* name : {"above/node", "above/node/data", "above/node/large"}) {
            EXPECT_EQ(::listxattr((mount / name).c_str(), nullptr, 0), 0) << type << ' ' << name;
        }
        EXPECT_EQ(report_.count(), 0U);
    }
}

TEST_F(RestorePlaceTest, WithoutPrivilegesWhatCannotBeSetIsToldAndSetuidIsDropped) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root, to give that up";
    }
    fill();
    ASSERT_EQ(::mknod((node() / "device").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
    write_file(node() / "program", "#!");
    ASSERT_EQ(::chmod((node() / "program").c_str(), 04755), 0);
    const auto backup = back_up();
    fs::create_directory(base() / "theirs");
    ASSERT_EQ(::chown((base() / "theirs").c_str(), 65534, 65534), 0);
    ASSERT_EQ(::chmod(base().c_str(), 0755), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        bool good = ::setgid(65534) == 0 && ::setuid(65534) == 0;
        restore(backup, options_to((base() / "theirs" / "node").string()));
        std::string all;
        for (const auto& warning : report_.warnings()) {
            all += warning + '\n';
        }
        good = good && all.find("owner") != std::string::npos && all.find("special file") != std::string::npos &&
               all.find("setuid") != std::string::npos;
        std::cerr << (good ? "" : all);
        ::_exit(good ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    struct stat found {};
    ASSERT_EQ(::stat((base() / "theirs" / "node" / "program").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0755U);
    EXPECT_EQ(read_file(base() / "theirs" / "node" / "large"), read_file(node() / "large"));
}

unsigned flags_of(const fs::path& path) {
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    int flags = 0;
    EXPECT_EQ(::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags), 0) << path;
    return static_cast<unsigned>(flags);
}

void set_flags(const fs::path& path, int flags) {
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags), 0) << path;
}

TEST_F(RestorePlaceTest, FlagsComeBackAndWhatCannotBeHeldIsTold) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const LoopMount mount("btrfs");
    // The backup's source must hold the flags itself.
    fs::remove(node());
    fs::create_directory(mount / "node");
    fs::create_directory_symlink(mount / "node", node());
    const fs::path source = mount / "node";
    fs::create_directories(source / "sealed");
    write_file(source / "nocow", "");
    set_flags(source / "nocow", FS_NOCOW_FL);
    write_file(source / "nocow", random_content(random_, 6U << 20));
    write_file(source / "immutable", "never");
    write_file(source / "sealed" / "append", "on and on");
    fs::create_hard_link(source / "immutable", source / "sealed" / "immutable too");
    set_flags(source / "immutable", FS_IMMUTABLE_FL | FS_NODUMP_FL);
    set_flags(source / "sealed" / "append", FS_APPEND_FL);
    set_flags(source / "sealed", FS_IMMUTABLE_FL);
    const auto backup = back_up();
    {
        FaultHooks hooks;
        std::uint64_t synced = 0;
        hooks.on_each_step([&](const std::string& step) { synced = step == "restore.placed" ? hooks.count("syncfs") : synced; });
        restore(backup, options_to(mount / "restored"));
        EXPECT_GT(hooks.count("syncfs"), synced) << "the seals are durable before the end is announced";
    }
    const fs::path restored = mount / "restored";
    EXPECT_EQ(report_.count(), 0U);
    EXPECT_EQ(flags_of(restored / "nocow") & FS_NOCOW_FL, static_cast<unsigned>(FS_NOCOW_FL));
    EXPECT_EQ(flags_of(restored / "immutable") & (FS_IMMUTABLE_FL | FS_NODUMP_FL), static_cast<unsigned>(FS_IMMUTABLE_FL | FS_NODUMP_FL));
    EXPECT_EQ(flags_of(restored / "sealed" / "append") & FS_APPEND_FL, static_cast<unsigned>(FS_APPEND_FL));
    EXPECT_EQ(flags_of(restored / "sealed") & FS_IMMUTABLE_FL, static_cast<unsigned>(FS_IMMUTABLE_FL));
    EXPECT_EQ(picture_of(restored), picture_of(source));
    for (const auto& top : {source, restored}) {
        set_flags(top / "sealed", 0);
        set_flags(top / "sealed" / "append", 0);
        set_flags(top / "immutable", 0);
    }
    const LoopMount other("ext4");
    restore(backup, options_to(other / "restored"));
    const auto warnings = report_.warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_NE(warnings.front().find("nodatacow"), std::string::npos) << warnings.front();
    set_flags(other / "restored/sealed", 0);
    set_flags(other / "restored/sealed/append", 0);
    set_flags(other / "restored/immutable", 0);
}

TEST_F(RestorePlaceTest, MoreHardLinksThanTheFileSystemAllows) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    constexpr int kNames = 65'010;  // ext4 allows 65,000
    auto repository = open();
    MadeBackup made;
    const auto pack = made.data_pack(repository, 1);
    auto record = MadeBackup::file(pack, 0, 1);
    record.links = kNames;
    made.inode(9, record);
    for (int i = 0; i < kNames; ++i) {
        made.name(MadeBackup::kRoot, "name" + std::to_string(i), 9);
    }
    const auto backup = made.publish(repository);
    const LoopMount mount("ext4");
    restore(backup, options_to(mount / "restored"));
    EXPECT_EQ(report_.count(), 1U);
    std::map<ino_t, std::uint64_t> inodes;
    for (const auto& entry : fs::directory_iterator(mount / "restored")) {
        struct stat status {};
        ASSERT_EQ(::lstat(entry.path().c_str(), &status), 0);
        if (inodes[status.st_ino]++ == 0) {
            EXPECT_EQ(read_file(entry.path()), std::string(MadeBackup::kSegmentBytes, '\1'));
        }
    }
    ASSERT_EQ(inodes.size(), 2U);
    EXPECT_EQ(std::max(inodes.begin()->second, inodes.rbegin()->second), 65'000U);
}

}  // namespace
}  // namespace nodesnap::test
