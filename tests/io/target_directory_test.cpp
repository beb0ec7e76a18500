// What only the directory target has: files, folders, a lock that a stopped process may hold, disks that are full or read-only.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "io/target/directory.h"
#include "platform/file_descriptor.h"
#include "tests/io/target_fixture.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::test {
namespace {

namespace fs = std::filesystem;

class DirectoryTarget : public testing::Test {
protected:
    std::string path() const { return scratch_ / "target"; }
    std::shared_ptr<Target> open() const { return open_directory_target(path(), true); }
    std::vector<std::string> files(const std::string& folder) const {
        std::vector<std::string> found;
        if (fs::exists(path() + "/" + folder)) {
            for (const auto& entry : fs::directory_iterator(path() + "/" + folder)) {
                found.push_back(entry.path().filename());
            }
        }
        return found;
    }

    ScratchDirectory scratch_{"nodesnap-target"};
};

// A process that runs `work` and is killed when it isn't needed any more.
class Child {
public:
    template <typename Work>
    explicit Child(Work work) : pid_(::fork()) {
        if (pid_ == 0) {
            int status = 99;
            try {
                status = work();
            } catch (const std::exception&) {
            }
            ::_exit(status);
        }
    }
    ~Child() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    void wait_until_stopped() const {
        int status = 0;
        ASSERT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
        ASSERT_TRUE(WIFSTOPPED(status)) << status;
    }
    void go_on() const { ::kill(pid_, SIGCONT); }
    int exit_status() {
        int status = 0;
        EXPECT_EQ(::waitpid(std::exchange(pid_, -1), &status, 0) > 0, true);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

private:
    pid_t pid_;
};

TEST_F(DirectoryTarget, MustExistUnlessItIsToBeMade) {
    EXPECT_EQ(status_of([&] { open_directory_target(path()); }), ExitStatus::kRefused);
    open();
    EXPECT_NO_THROW(open_directory_target(path()));
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700U);
    EXPECT_EQ(status_of([&] { open_directory_target(scratch_ / "no/such/parent", true); }), ExitStatus::kFailed);
    std::ofstream(scratch_ / "file");
    EXPECT_EQ(status_of([&] { open_directory_target(scratch_ / "file"); }), ExitStatus::kRefused);
}

TEST_F(DirectoryTarget, FoldersAreForTheOwnerOnly) {
    const auto target = open();
    target->create("packs/0a/x", bytes_of("x"));
    struct stat status {};
    ASSERT_EQ(::stat((path() + "/packs/0a").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700U);
    ASSERT_EQ(::stat((path() + "/packs/0a/x").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600U);
}

// As on a network file system, where another host has just replaced the object, or unlinked the lock.
TEST_F(DirectoryTarget, StaleFileIsOpenedAgainButNotForEver) {
    const auto target = open();
    ASSERT_TRUE(target->create("locks/exclusive", bytes_of("1")));
    FaultHooks hooks;
    hooks.fail_nth(1, ESTALE, false, "target.open");
    EXPECT_TRUE(target->load("locks/exclusive", 100));
    EXPECT_EQ(hooks.injected(), 1U);
    for (const int error : {ESTALE, ENOENT}) {
        const auto present = target->load("locks/exclusive", 100);
        hooks.fail_nth(1, error, false, "target.open");
        EXPECT_TRUE(target->swap("locks/exclusive", present->version, bytes_of(std::to_string(error))));
    }
    EXPECT_EQ(hooks.injected(), 3U);
    for (const int error : {ESTALE, ENOENT}) {
        hooks.fail_nth(1, error, true, "target.open");
        EXPECT_EQ(status_of([&] { target->swap("locks/exclusive", std::nullopt, bytes_of("3")); }), ExitStatus::kFailed);
    }
}

TEST_F(DirectoryTarget, WhatIsNoFileIsADamagedObject) {
    const auto target = open();
    fs::create_symlink("/etc/passwd", path() + "/link");
    fs::create_directory(path() + "/folder");
    ASSERT_EQ(::mkfifo((path() + "/fifo").c_str(), 0600), 0);
    for (const char* name : {"link", "folder", "fifo"}) {
        EXPECT_EQ(status_of([&] { target->load(name, 100); }), ExitStatus::kDamaged) << name;
        EXPECT_EQ(status_of([&] { target->open(name); }), ExitStatus::kDamaged) << name;
    }
}

TEST_F(DirectoryTarget, StaysTheSameDirectoryWhenItIsRenamed) {
    const auto target = open();
    fs::rename(path(), scratch_ / "elsewhere");
    EXPECT_TRUE(target->create("a", bytes_of("a")));
    EXPECT_TRUE(fs::exists(scratch_ / "elsewhere/a"));
}

TEST_F(DirectoryTarget, ListsForeignNamesButNotItsOwnHelpers) {
    const auto target = open();
    target->swap("locks/exclusive", std::nullopt, bytes_of("l"));
    fs::create_directory(path() + "/lost+found");
    std::ofstream(path() + "/lost+found/#1");
    std::ofstream(path() + "/a file of the operator");
    std::ofstream(path() + "/.bashrc");
    fs::create_symlink("/nowhere", path() + "/link");
    const auto part = target->begin("packs/x", "part");
    std::vector<std::string> names;
    target->list("", [&](const ObjectEntry& entry) { names.push_back(entry.name); });
    EXPECT_EQ(names, (std::vector<std::string>{".bashrc", "a file of the operator", "link", "locks/exclusive"}));
}

TEST_F(DirectoryTarget, SymlinksAndFoldersAreNoObjects) {
    const auto target = open();
    std::ofstream(scratch_ / "secret") << "secret";
    fs::create_symlink(scratch_ / "secret", path() + "/link");
    EXPECT_THROW(target->open("link"), Error);
    EXPECT_THROW(target->load("link", 100), Error);
    fs::create_directory(path() + "/folder");
    EXPECT_EQ(status_of([&] { target->load("folder", 100); }), ExitStatus::kDamaged);
    ::mkfifo((path() + "/fifo").c_str(), 0600);
    EXPECT_EQ(status_of([&] { target->load("fifo", 100); }), ExitStatus::kDamaged);
    EXPECT_EQ(status_of([&] { target->open("fifo"); }), ExitStatus::kDamaged);
}

TEST_F(DirectoryTarget, KilledWriterLeavesAPartThatAbandonRemoves) {
    open();
    Child child([&] {
        Ring ring({.entries = 8});
        AlignedBuffer data(8192);
        const auto writer = open()->begin("packs/0a/x", "0aaa");
        ring.wait(writer->write(ring, data.span(), 0));
        ::raise(SIGKILL);
        return 0;
    });
    EXPECT_EQ(child.exit_status(), 128 + SIGKILL);
    EXPECT_EQ(files("journal"), std::vector<std::string>{"0aaa.part"});
    open()->abandon([](std::string_view id) { return id != "0aaa"; });
    EXPECT_EQ(files("journal").size(), 1U);
    open()->abandon([](std::string_view id) { return id == "0aaa"; });
    EXPECT_TRUE(files("journal").empty());
}

TEST_F(DirectoryTarget, WhatAKilledSwapLeftIsCleanedByTheNext) {
    const auto target = open();
    target->swap("l", std::nullopt, bytes_of("one"));
    Child child([&] {
        FaultHooks hooks;
        hooks.kill_at_step("target.compared");
        const auto now = target->load("l", 10);
        target->swap("l", now->version, bytes_of("two"));
        return 0;
    });
    EXPECT_EQ(child.exit_status(), 128 + SIGKILL);
    EXPECT_EQ(files("locks").size(), 2U);
    EXPECT_EQ(text_of(target->load("l", 10)->content), "one");
    EXPECT_TRUE(target->create("other", {}));
    EXPECT_EQ(files("locks"), std::vector<std::string>{".swap"});
}

// It compared, and is stopped before it replaces. Nobody may wait for it, and it must not overwrite what came after it.
TEST_F(DirectoryTarget, StoppedHolderOfTheLockNeitherBlocksOthersNorOverwritesThem) {
    const auto target = open();
    target->swap("l", std::nullopt, bytes_of("one"));
    target->create("taken-later", {});
    const auto stop_in = [&](const std::function<bool()>& change) {
        return [=] {
            FaultHooks hooks;
            hooks.signal_at_step("target.compared", SIGSTOP);
            return change() ? 1 : 0;
        };
    };
    Child swapper(stop_in([&] { return target->swap("l", target->load("l", 10)->version, bytes_of("late")); }));
    swapper.wait_until_stopped();
    EXPECT_TRUE(target->swap("l", target->load("l", 10)->version, bytes_of("two")));
    Child creator(stop_in([&] { return target->create("new", bytes_of("late")); }));
    creator.wait_until_stopped();
    EXPECT_TRUE(target->create("new", bytes_of("early")));
    swapper.go_on();
    creator.go_on();
    EXPECT_EQ(swapper.exit_status(), 0);
    EXPECT_EQ(creator.exit_status(), 0);
    EXPECT_EQ(text_of(target->load("l", 10)->content), "two");
    EXPECT_EQ(text_of(target->load("new", 10)->content), "early");
}

TEST_F(DirectoryTarget, SwapsOfManyProcessesLoseNothing) {
    constexpr int kEach = 25;
    open()->create("counter", bytes_of("0"));
    const auto work = [&] {
        const auto target = open();
        for (int done = 0; done < kEach;) {
            const auto now = target->load("counter", 100);
            done += target->swap("counter", now->version, bytes_of(std::to_string(std::stoi(text_of(now->content)) + 1))) ? 1 : 0;
        }
        return 0;
    };
    Child one(work);
    Child two(work);
    Child three(work);
    EXPECT_EQ(one.exit_status() + two.exit_status() + three.exit_status(), 0);
    EXPECT_EQ(text_of(open()->load("counter", 100)->content), std::to_string(3 * kEach));
}

TEST_F(DirectoryTarget, ReadsFromAReadOnlyMount) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    LoopMount mount("ext4", std::uint64_t{64} << 20);
    Ring ring({.entries = 8});
    AlignedBuffer data(8192, 5);
    {
        const auto target = open_directory_target(mount / "r", true);
        EXPECT_EQ(target->write_error(), 0);
        EXPECT_NO_THROW(target->check_writable());
        put_object(*target, ring, "packs/0a/x", "x", data.span(), 4096);
        target->create("small", bytes_of("small"));
    }
    mount.remount("ro");
    const auto target = open_directory_target(mount / "r");
    EXPECT_EQ(target->write_error(), EROFS);
    EXPECT_THROW(target->check_writable(), Error);
    AlignedBuffer back(8192);
    ring.wait(target->open("packs/0a/x")->read(ring, back.span(), 0));
    EXPECT_TRUE(back == data);
    EXPECT_EQ(text_of(target->load("small", 10)->content), "small");
    EXPECT_THROW(target->create("new", {}), Error);
    EXPECT_THROW(target->begin("new", "new"), Error);
    EXPECT_THROW(target->remove("small"), Error);
}

// The kernel gives the space of an unlinked file back when the last worker of the ring that wrote to it lets go of it, and ext4 hands it
// out again after its journal's next commit: both a moment after the calls that removed it returned.
void wait_for_free_bytes(const Target& target, const LoopMount& mount, std::uint64_t bytes) {
    const FileDescriptor root(::open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    do {
        ASSERT_EQ(::syncfs(root.get()), 0);
    } while (target.free_bytes().value_or(0) < bytes);
    ASSERT_EQ(::syncfs(root.get()), 0);
}

TEST_F(DirectoryTarget, FullDiskIsNamedAndLeavesNothing) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    LoopMount mount("ext4", std::uint64_t{16} << 20);
    const auto target = open_directory_target(mount / "r", true);
    Ring ring({.entries = 8});
    AlignedBuffer data(std::size_t{32} << 20);
    try {
        put_object(*target, ring, "packs/0a/x", "x", data.span(), std::size_t{1} << 20);
        FAIL() << "it can't fit";
    } catch (const Error& error) {
        EXPECT_EQ(error.error_number(), ENOSPC);
        EXPECT_NE(error.message().find(mount.path()), std::string::npos) << error.message();
        EXPECT_NE(error.hint().find("free space"), std::string::npos) << error.hint();
    }
    EXPECT_EQ(target->open("packs/0a/x"), nullptr);
    const Bytes small(std::size_t{20} << 20);
    EXPECT_THROW(target->create("small", small), Error);
    EXPECT_FALSE(target->load("small", small.size()));
    EXPECT_TRUE(fs::is_empty(mount / "r/journal"));
    wait_for_free_bytes(*target, mount, std::uint64_t{4} << 20);
    put_object(*target, ring, "packs/0a/x", "x", data.part(0, 4096), 4096);
    EXPECT_GT(*target->free_bytes(), 0U);
}

// Each operation fails once at each point that it passes, and then for good; what is stored must be the old or the new, and the next try
// works.
TEST_F(DirectoryTarget, FaultAtAnyPointLeavesTheOldOrTheNew) {
    const auto target = open();
    Ring ring({.entries = 8, .force_blocking = true});
    AlignedBuffer data(12288, 9);
    FaultHooks hooks;
    std::uint64_t injected = 0;
    for (const bool for_good : {false, true}) {
        for (std::uint64_t nth = 1;; ++nth) {
            const std::string tag = std::to_string(nth) + (for_good ? "-for-good" : "-once");
            target->swap("l", std::nullopt, bytes_of("old"));
            const auto version = target->load("l", 10)->version;
            const std::uint64_t before = hooks.injected();
            hooks.fail_nth(nth, EIO, for_good);
            EXPECT_NO_THROW({
                try {
                    target->swap("l", version, bytes_of("new"));
                    target->create("new-" + tag, bytes_of("created"));
                    put_object(*target, ring, "large/" + tag, tag, data.span(), 4096);
                    target->remove("l");
                } catch (const Error&) {
                    // Told; that is all that it must do.
                }
            });
            hooks.stop_failing();
            const auto l = target->load("l", 10);
            EXPECT_TRUE(!l || text_of(l->content) == "old" || text_of(l->content) == "new");
            const auto created = target->load("new-" + tag, 10);
            EXPECT_TRUE(!created || text_of(created->content) == "created");
            const auto large = target->open("large/" + tag);
            EXPECT_TRUE(large == nullptr || large->size() == data.span().size());
            EXPECT_TRUE(files("journal").empty());
            target->remove("l");
            if (hooks.injected() == before) {
                break;
            }
            ++injected;
        }
    }
    std::cout << "points injected: " << injected << '\n';
    EXPECT_GT(injected, 40U);
}

// Removals are made durable before what comes after them.
TEST_F(DirectoryTarget, RemovalsAreSyncedByTheNextChange) {
    const auto target = open();
    target->create("packs/0a/x", {});
    target->create("packs/0b/x", {});
    target->create("warm", {});
    FaultHooks hooks;
    target->create("once", {});
    const std::uint64_t usual = hooks.count("fsync");
    target->remove("packs/0a/x");
    target->remove("packs/0b/x");
    target->create("twice", {});
    EXPECT_EQ(hooks.count("fsync"), usual + usual + 2);
}

TEST_F(DirectoryTarget, RemovalsByAnotherAreSyncedWhenAskedFor) {
    open()->create("backups/x", {});
    open()->remove("backups/x");
    const auto target = open();
    FaultHooks hooks;
    target->persist_removals("backups/");
    EXPECT_EQ(hooks.count("fsync"), 1U);
    target->persist_removals("no-such-folder/");
    EXPECT_EQ(hooks.count("fsync"), 1U);
    hooks.fail_nth(1, EIO, false, "fsync");
    EXPECT_THROW(target->persist_removals("backups/"), Error);
}

// The device fails in the first read and in the third: of all, then of the second block.
class BadBlock : public FaultHooks {
public:
    int on_operation(const char* operation) noexcept override {
        const bool read = std::string_view(operation) == "read";
        return read && (reads_++, reads_ == 1 || reads_ == 3) ? EIO : 0;
    }

private:
    int reads_ = 0;
};

TEST_F(DirectoryTarget, WhatCanBeReadOfABadObjectIsSalvaged) {
    const auto target = open();
    Bytes content(3 * 4096, std::byte{7});
    ASSERT_TRUE(target->create("backups/x", content));
    const BadBlock hooks;
    const auto salvaged = target->load_salvaging("backups/x", 1U << 20);
    ASSERT_TRUE(salvaged);
    EXPECT_EQ(salvaged->error_number, EIO);
    std::fill(content.begin() + 4096, content.begin() + 8192, std::byte{0});
    EXPECT_EQ(salvaged->content, content);
    EXPECT_FALSE(target->load_salvaging("backups/none", 1U << 20));
}

TEST_F(DirectoryTarget, WhatCannotBeReadCanBeReplaced) {
    const auto target = open();
    const Bytes content(3 * 4096, std::byte{7});
    ASSERT_TRUE(target->create("backups/x", content));
    const std::string version = target->load("backups/x", 1U << 20)->version;
    FaultHooks hooks;
    hooks.fail_nth(1, EIO, true, "read");
    const auto salvaged = target->load_salvaging("backups/x", 1U << 20);
    ASSERT_TRUE(salvaged);
    // Who expects something else gets the device's error, not the answer that another changed it.
    EXPECT_THROW(target->swap("backups/x", version, content), Error);
    EXPECT_TRUE(target->swap("backups/x", salvaged->version, Bytes(5, std::byte{1})));
    hooks.stop_failing();
    EXPECT_EQ(target->load_salvaging("backups/x", 1U << 20)->content, Bytes(5, std::byte{1}));
    EXPECT_EQ(target->load_salvaging("backups/x", 1U << 20)->error_number, 0);
}

TEST_F(DirectoryTarget, SaysWhoMayNotWriteToIt) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root to become another user";
    }
    const auto target = open();
    Child stranger([&] {
        if (::chmod(path().c_str(), 0755) != 0 || ::seteuid(65534) != 0) {
            return 1;
        }
        try {
            target->check_writable();
        } catch (const Error& error) {
            const bool right = error.status() == ExitStatus::kRefused && error.error_number() == EACCES &&
                               error.message().find("Permission denied") != std::string::npos &&
                               error.hint().find("user") != std::string::npos;
            return right ? 0 : 2;
        }
        return 3;
    });
    EXPECT_EQ(stranger.exit_status(), 0);
}

TEST_F(DirectoryTarget, KnowsItsDirectory) {
    fs::create_directory_symlink(path(), scratch_ / "link");
    open();
    EXPECT_EQ(open_directory_target(scratch_ / "link")->local_directory(), fs::canonical(path()).string());
}

TEST_F(DirectoryTarget, WhatIsNoDirectoryIsCalledThat) {
    std::ofstream(scratch_ / "file") << "x";
    fs::create_symlink("nowhere", scratch_ / "dangling");
    const auto message = [this](const std::string& name, bool create) {
        try {
            open_directory_target(scratch_ / name, create);
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kRefused) << name;
            return error.message() + "; " + error.hint();
        }
        return std::string("none");
    };
    const auto says = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
    for (const bool create : {false, true}) {
        EXPECT_TRUE(says(message("file", create), "isn't a directory")) << message("file", create);
        EXPECT_FALSE(says(message("file", create), "init")) << message("file", create);
    }
    EXPECT_TRUE(says(message("dangling", true), "symlink to nowhere")) << message("dangling", true);
    EXPECT_TRUE(says(message("dangling", false), "no such directory"));
    EXPECT_TRUE(says(message("nothing", false), "nodesnap init"));
}

}  // namespace
}  // namespace nodesnap::test
