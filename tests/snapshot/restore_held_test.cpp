// What a destination can't hold is told, never left out without a word; and nothing comes to a restored file that it didn't have.
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "snapshot/restore.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

class RestoreHeld : public RestoreTest {
protected:
    RestoreOptions options_to(const std::string& destination) const {
        auto options = RestoreTest::options();
        options.destination = destination;
        return options;
    }
    std::string warnings() const {
        std::string all;
        for (const auto& warning : report_.warnings()) {
            all += warning + '\n';
        }
        return all;
    }
    void set_time(const std::string& name, std::int64_t seconds, long nanoseconds) {
        write_file(node() / name, name);
        const timespec times[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
        ASSERT_EQ(::utimensat(AT_FDCWD, (node() / name).c_str(), times, 0), 0);
    }
    static unsigned flags_of(const fs::path& path) {
        const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        int flags = 0;
        EXPECT_EQ(::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags), 0) << path;
        return static_cast<unsigned>(flags);
    }
    std::mt19937_64 random_{7};
};

TEST_F(RestoreHeld, TimesThatTheFileSystemCutsAreTold) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    NODESNAP_NEEDS_LOOP_MOUNT("xfs");
    set_time("plain", 1'000'000'000, 0);
    set_time("in 2040", 2'220'000'000, 0);
    set_time("in 2100", 4'102'444'800, 0);
    const timespec whole[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, node().c_str(), whole, 0), 0);
    const auto backup = back_up();
    {
        const LoopMount mount("xfs", std::uint64_t{512} << 20, {"-m", "bigtime=0"});
        restore(backup, options_to(mount / "restored"));
        ASSERT_EQ(report_.count(), 1U) << warnings();
        EXPECT_NE(warnings().find("exact times of 2 files"), std::string::npos) << warnings();
    }
    set_time("a fraction", 1'000'000'000, 5);
    ASSERT_EQ(::utimensat(AT_FDCWD, node().c_str(), whole, 0), 0);
    const auto finer = back_up();
    const LoopMount small("ext4", std::uint64_t{512} << 20, {"-I", "128"});
    restore(finer, options_to(small / "restored"));
    EXPECT_EQ(report_.count(), 3U) << warnings();
    EXPECT_NE(warnings().find("fractions of seconds in the times"), std::string::npos) << warnings();
    const LoopMount large("btrfs");
    const auto before = report_.count();
    restore(finer, options_to(large / "restored"));
    EXPECT_EQ(report_.count(), before) << warnings();
    EXPECT_EQ(picture_of(large / "restored"), picture_of(node()));
}

TEST_F(RestoreHeld, SymlinksThatAreTooLongAreTold) {
    NODESNAP_NEEDS_LOOP_MOUNT("xfs");
    fs::create_symlink(std::string(2000, 's'), node() / "long");
    fs::create_symlink(std::string(200, 's'), node() / "short");
    const auto backup = back_up();
    const LoopMount mount("xfs");
    EXPECT_EQ(failure_of(backup, options_to(mount / "restored")), ExitStatus::kDone) << message_;
    EXPECT_NE(warnings().find("long (a symlink) could not"), std::string::npos) << warnings();
    EXPECT_TRUE(fs::is_symlink(mount / "restored/short"));
}

TEST_F(RestoreHeld, FlagsOfTheDirectoryAboveDoNotCome) {
    fs::create_directory(node() / "d");
    write_file(node() / "d" / "file", random_content(random_, 100'000));
    write_file(node() / "file", "x");
    const auto backup = back_up();
    const std::map<std::string, int> inherited{{"ext4", FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL}, {"btrfs", FS_NOCOW_FL}};
    for (const auto& [type, flags] : inherited) {
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        const LoopMount mount(type);
        fs::create_directory(mount / "above");
        for (const auto& above : {mount.path(), mount / "above"}) {
            if (type == "btrfs" && above != mount.path()) {
                continue;  // compression and nodatacow don't go together
            }
            const FileDescriptor fd(::open(above.c_str(), O_RDONLY | O_CLOEXEC));
            ASSERT_EQ(::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags), 0);
        }
        if (type == "btrfs") {
            ASSERT_EQ(::setxattr((mount / "above").c_str(), "btrfs.compression", "zstd", 4, 0), 0);
        }
        restore(backup, options_to(mount / "above/node"));
        EXPECT_EQ(picture_of(mount / "above/node"), picture_of(node())) << type;
        fs::remove_all(mount / "above/node");
        fs::remove_all(mount / "above");
        restore(backup, options_to(mount.path()));
        for (const auto* name : {"", "file", "d", "d/file"}) {
            EXPECT_EQ(flags_of(mount / name) & static_cast<unsigned>(flags), 0U) << type << " /" << name;
        }
        EXPECT_EQ(report_.count(), 0U) << warnings();
    }
}

TEST_F(RestoreHeld, WhereThereAreNoHardLinksEachNameIsACopyAndThatIsTold) {
    for (const auto* name : {"first", "second", "third"}) {
        if (std::string(name) == "first") {
            write_file(node() / name, random_content(random_, 6U << 20));
        } else {
            fs::create_hard_link(node() / "first", node() / name);
        }
    }
    const auto backup = back_up();
    FaultHooks hooks;
    hooks.fail_nth(1, EPERM, true, "link");
    EXPECT_EQ(failure_of(backup), ExitStatus::kDone) << message_;
    EXPECT_NE(warnings().find("hard links of 3 files"), std::string::npos) << warnings();
    for (const auto* name : {"first", "second", "third"}) {
        EXPECT_TRUE(read_file(place() / name) == read_file(node() / "first")) << name;
    }
}

// Which names a file system refuses, only some show, so the refusals are made up: at any point.
TEST_F(RestoreHeld, NamesThatAreRefusedAreToldAndTheRestComes) {
    fs::create_directories(node() / "d" / "e");
    for (int i = 0; i < 4; ++i) {
        write_file(node() / "d" / ("f" + std::to_string(i)), random_content(random_, static_cast<std::size_t>(i) * 3000));
    }
    write_file(node() / "d" / "e" / "large", random_content(random_, 5U << 20));
    fs::create_hard_link(node() / "d" / "f3", node() / "linked");
    const auto backup = back_up();
    const auto wanted = picture_of(node());
    for (const auto* operation : {"open", "mkdir", "link"}) {
        std::uint64_t told = 0;
        for (std::uint64_t nth = 1; nth < 200; ++nth) {
            FaultHooks hooks;
            hooks.fail_nth(nth, ENAMETOOLONG, false, operation);
            const auto before = report_.count();
            const auto status = failure_of(backup);
            const bool over = hooks.injected() == 0;
            hooks.stop_failing();
            if (status == ExitStatus::kDone && report_.count() == before) {
                EXPECT_EQ(picture_of(place()), wanted) << operation << ' ' << nth;
            }
            told += status == ExitStatus::kDone && report_.count() > before ? 1 : 0;
            fs::remove_all(staging());
            fs::remove_all(place());
            if (over) {
                break;
            }
        }
        EXPECT_GT(told, 0U) << operation;
        std::cout << operation << ": told " << told << '\n';
    }
}

TEST_F(RestoreHeld, HolesThatAreFilledAreTold) {
    NODESNAP_NEEDS_LOOP_MOUNT("xfs");
    const int fd = ::open((node() / "sparse").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    for (int i = 0; i < 8; ++i) {
        ASSERT_EQ(::pwrite(fd, "data", 4, i << 20), 4);
    }
    ASSERT_EQ(::ftruncate(fd, 8 << 20), 0);
    ::close(fd);
    const auto backup = back_up();
    const LoopMount mount("xfs");
    restore(backup, options_to(mount / "restored"));
    EXPECT_EQ(report_.count(), 0U) << warnings();
    // With a hint for its files' extents XFS allocates them whole.
    fs::create_directory(mount / "above");
    run({"xfs_io", "-c", "extsize 1m", mount / "above"});
    restore(backup, options_to(mount / "above/restored"));
    EXPECT_NE(warnings().find("holes of sparse"), std::string::npos) << warnings();
}

}  // namespace
}  // namespace nodesnap::test
