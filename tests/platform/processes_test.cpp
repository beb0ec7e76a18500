#include "platform/processes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "platform/error.h"
#include "platform/file.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using test::HolderProcess;

class UsersTest : public testing::Test {
protected:
    void SetUp() override {
        fs::create_directories(scratch_ / "node/data");
        fs::create_directories(scratch_ / "node-other");
        write_file_durably(file(), std::string(8192, 'x'));
        write_file_durably(scratch_ / "node-other/file", "x");
    }
    std::string node() const { return scratch_ / "node"; }
    std::string file() const { return scratch_ / "node/data/file"; }
    bool open_for(int flags) const { return ::open(file().c_str(), flags) >= 0; }
    test::ScratchDirectory scratch_;
};

TEST_F(UsersTest, NobodyUsesAFreshDirectory) {
    const FileDescriptor own = open_path(file(), O_RDWR);  // ourselves don't count
    EXPECT_TRUE(users_of_directory(node()).empty());
}

TEST_F(UsersTest, OpenFileIsFoundAndItsModeTold) {
    const HolderProcess writer([&] { return open_for(O_WRONLY); });
    const auto users = users_of_directory(node());
    ASSERT_EQ(users.size(), 1u);
    EXPECT_EQ(users[0].pid, writer.pid());
    EXPECT_EQ(users[0].what, "open file");
    EXPECT_EQ(users[0].path, file());
    EXPECT_EQ(users[0].relative, "data/file");
    EXPECT_TRUE(users[0].writable);
    EXPECT_FALSE(users[0].command.empty());
    const HolderProcess reader([&] { return open_for(O_RDONLY); });
    const auto both = users_of_directory(node());
    ASSERT_EQ(both.size(), 2u);
    EXPECT_TRUE(both[0].writable) << "writers come first";
    EXPECT_FALSE(both[1].writable);
    EXPECT_EQ(users_of_directory(node(), 1).size(), 1u);
    const auto others = users_of_directory(node(), 64, nullptr, [&](pid_t pid) { return pid == writer.pid(); });
    ASSERT_EQ(others.size(), 1u);
    EXPECT_EQ(others[0].pid, reader.pid());
}

TEST_F(UsersTest, NameThatBeginsAlikeIsAnotherDirectory) {
    const HolderProcess other([&] { return ::open((scratch_ / "node-other/file").c_str(), O_RDWR) >= 0; });
    EXPECT_TRUE(users_of_directory(node()).empty());
}

TEST_F(UsersTest, CurrentDirectoryIsFound) {
    const HolderProcess holder([&] { return ::chdir((node() + "/data").c_str()) == 0; });
    const auto users = users_of_directory(node());
    ASSERT_EQ(users.size(), 1u);
    EXPECT_EQ(users[0].what, "current directory");
    EXPECT_FALSE(users[0].writable);
}

TEST_F(UsersTest, MappedFileIsFoundWithoutADescriptor) {
    const auto map = [&](int protection) {
        const int fd = ::open(file().c_str(), O_RDWR);
        const bool mapped = ::mmap(nullptr, 8192, protection, MAP_SHARED, fd, 0) != MAP_FAILED;
        ::close(fd);
        return mapped;
    };
    {
        const HolderProcess holder([&] { return map(PROT_READ | PROT_WRITE); });
        const auto users = users_of_directory(node());
        ASSERT_EQ(users.size(), 1u);
        EXPECT_EQ(users[0].what, "mapped file");
        EXPECT_EQ(users[0].relative, "data/file");
        EXPECT_TRUE(users[0].writable);
    }
    const HolderProcess holder([&] { return map(PROT_READ); });
    ASSERT_EQ(users_of_directory(node()).size(), 1u);
    EXPECT_FALSE(users_of_directory(node())[0].writable);
}

TEST_F(UsersTest, DirectWritersAreToldByTheirInodes) {
    const std::uint64_t number = stat_path(file())->stx_ino;
    EXPECT_EQ(written_directly(node()), std::vector<std::uint64_t>{});
    const HolderProcess buffered([&] { return open_for(O_RDWR); });
    const HolderProcess reader([&] { return open_for(O_RDONLY | O_DIRECT); });
    EXPECT_EQ(written_directly(node()), std::vector<std::uint64_t>{});
    const HolderProcess writer([&] { return open_for(O_WRONLY | O_DIRECT); });
    const HolderProcess another([&] { return open_for(O_RDWR | O_DIRECT); });
    EXPECT_EQ(written_directly(node()), std::vector<std::uint64_t>{number}) << "once";
}

TEST_F(UsersTest, DeletedFileIsNoWriter) {
    const HolderProcess holder([&] { return open_for(O_RDWR) && ::unlink(file().c_str()) == 0; });
    for (const DirectoryUser& user : users_of_directory(node())) {
        EXPECT_FALSE(user.writable) << user.path;
    }
}

TEST_F(UsersTest, UseThroughABindMountIsFound) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root to mount";
    }
    const std::string bound = scratch_ / "bound";
    fs::create_directory(bound);
    test::run({"mount", "--bind", node() + "/data", bound});
    {
        const HolderProcess holder([&] { return ::open((bound + "/file").c_str(), O_RDWR) >= 0; });
        const auto users = users_of_directory(node());
        EXPECT_EQ(users.size(), 1u);
        if (!users.empty()) {
            EXPECT_EQ(users[0].relative, "data/file");
            EXPECT_TRUE(users[0].writable);
        }
    }
    test::run({"umount", bound});
}

TEST_F(UsersTest, UseInAnotherMountNamespaceIsFound) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root to mount";
    }
    fs::create_directory(scratch_ / "inside");
    // The mount exists only where the child lives, as in a container.
    const HolderProcess holder([&] {
        return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount(node().c_str(), (scratch_ / "inside").c_str(), nullptr, MS_BIND, nullptr) == 0 &&
               ::open((scratch_ / "inside/data/file").c_str(), O_RDWR) >= 0;
    });
    const auto users = users_of_directory(node());
    ASSERT_EQ(users.size(), 1u);
    EXPECT_EQ(users[0].relative, "data/file");
    EXPECT_TRUE(users[0].writable);
}

TEST_F(UsersTest, UseByAProcessInAChrootIsFound) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root for chroot";
    }
    const HolderProcess holder(
        [&] { return ::chroot(scratch_.path().c_str()) == 0 && ::chdir("/") == 0 && ::open("/node/data/file", O_RDWR) >= 0; });
    const auto users = users_of_directory(node());
    ASSERT_EQ(users.size(), 1u);
    EXPECT_TRUE(users[0].writable);
}

TEST(Process, IsKnownByItsParentAndCommand) {
    EXPECT_EQ(process_parent(::getpid()), ::getppid());
    EXPECT_EQ(process_parent(1), 0);
    EXPECT_FALSE(process_parent(0x3fffffff));
    EXPECT_EQ(process_command(::getpid()), "platform_test");
    EXPECT_EQ(process_command(0x3fffffff), "");
}

TEST(Process, LivesUntilItEndsAndIsKnownByItsStart) {
    const auto own = process_start(::getpid());
    ASSERT_TRUE(own);
    EXPECT_TRUE(process_alive(::getpid(), *own));
    EXPECT_FALSE(process_alive(::getpid(), *own + 1));
    EXPECT_FALSE(process_start(0x3fffffff));
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(0);
    }
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);  // a zombie from here on
    const auto start = process_start(child);
    ASSERT_TRUE(start);
    EXPECT_FALSE(process_alive(child, *start));
    ::waitpid(child, nullptr, 0);
    EXPECT_FALSE(process_start(child));
}

}  // namespace
}  // namespace nodesnap
