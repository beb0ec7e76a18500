// Restores of real backups into directories: what comes back, what is refused.
#include "snapshot/restore.h"

#include <sys/xattr.h>

#include "platform/fault.h"
#include "tests/snapshot/restore_fixture.h"

namespace nodesnap::test {
namespace {

class Restore : public RestoreTest {
protected:
    void fill() {
        fs::create_directories(node() / "a" / "b" / "c");
        fs::create_directory(node() / "empty");
        for (int i = 0; i < 700; ++i) {
            write_file(node() / "a" / ("f" + std::to_string(i)), random_content(random_, static_cast<std::size_t>(i) * 13));
        }
        write_file(node() / "a" / "b" / "large", random_content(random_, 9'000'001));
        write_file(node() / "a" / "b" / "c" / "deep", "deep");
        write_file(node() / "CURRENT", "MANIFEST-1\n");
        fs::create_symlink("nowhere", node() / "link");
        fs::create_hard_link(node() / "a" / "f1", node() / "hard1");
        fs::create_hard_link(node() / "a" / "b" / "large", node() / "empty" / "hard2");
        ASSERT_EQ(::mkfifo((node() / "pipe").c_str(), 0640), 0);
        ASSERT_EQ(::chmod((node() / "a").c_str(), 01750), 0);
        const int fd = ::open((node() / "sparse").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        ASSERT_EQ(::pwrite(fd, "end", 3, 20'000'000), 3);
        ASSERT_EQ(::ftruncate(fd, 30'000'000), 0);
        ::close(fd);
        ASSERT_EQ(::lsetxattr((node() / "CURRENT").c_str(), "user.test", "value", 5, 0), 0);
        ASSERT_EQ(::utimensat(AT_FDCWD, (node() / "a" / "b").c_str(), kOld, 0), 0);
    }
    static constexpr timespec kOld[2] = {{1'000'000'000, 123'456'789}, {1'30'000'000, 987'654'321}};
    std::mt19937_64 random_{1};
};

TEST_F(Restore, BringsBackNamesContentAndAttributes) {
    fill();
    const auto backup = back_up();
    const auto result = restore(backup);
    EXPECT_EQ(picture_of(place()), picture_of(node()));
    EXPECT_FALSE(result.resumed);
    EXPECT_EQ(result.placed_as, "directory");
    EXPECT_EQ(report_.count(), 0U);
    EXPECT_FALSE(fs::exists(staging()));
    char value[8] = {};
    EXPECT_EQ(::lgetxattr((place() / "CURRENT").c_str(), "user.test", value, sizeof value), 5);
    EXPECT_STREQ(value, "value");
    struct stat status {};
    ASSERT_EQ(::stat((place() / "sparse").c_str(), &status), 0);
    EXPECT_LT(status.st_blocks, 100) << "holes were filled";
    struct stat first {};
    struct stat second {};
    ASSERT_EQ(::stat((place() / "a" / "f1").c_str(), &first), 0);
    ASSERT_EQ(::stat((place() / "hard1").c_str(), &second), 0);
    EXPECT_EQ(first.st_ino, second.st_ino);
}

TEST_F(Restore, WorksWithoutIoUring) {
    fill();
    auto blocking = options();
    blocking.force_blocking = true;
    blocking.workers = 3;
    const auto result = restore(back_up(), blocking);
    EXPECT_FALSE(result.io_fallback_reason.empty());
    EXPECT_EQ(picture_of(place()), picture_of(node()));
}

TEST_F(Restore, ReplacesAnEmptyDirectoryAndOneWithLostAndFound) {
    fill();
    const auto backup = back_up();
    fs::create_directory(place());
    restore(backup);
    EXPECT_EQ(picture_of(place()), picture_of(node()));
    auto other = options();
    other.destination = (base() / "other").string();
    fs::create_directories(base() / "other" / "lost+found");
    restore(backup, other);
    EXPECT_EQ(picture_of(base() / "other"), picture_of(node()));
    EXPECT_FALSE(fs::exists(base() / ".other.nodesnap-restore"));
}

TEST_F(Restore, OfPathsBringsBackTheseWithTheDirectoriesAbove) {
    fill();
    auto some = options();
    some.paths = {"/a/b/", "a/f5", "a/b/c/deep", "link"};
    const auto result = restore(back_up(), some);
    const auto wanted = picture_of(node());
    const auto got = picture_of(place());
    std::set<std::string> names;
    for (const auto& [name, line] : got) {
        names.insert(name);
        if (name != "a/b/large") {  // its other name stays behind
            EXPECT_EQ(line, wanted.at(name)) << name;
        }
    }
    EXPECT_EQ(names, (std::set<std::string>{".", "a", "a/b", "a/b/c", "a/b/c/deep", "a/b/large", "a/f5", "link"}));
    EXPECT_EQ(result.files, 3U);
}

TEST_F(Restore, RefusesWithoutTouchingAnything) {
    fill();
    const auto backup = back_up();
    fs::create_directory(place());
    write_file(place() / "mine", "keep");
    write_file(base() / "file", "keep");
    const auto before = names();
    const auto refused = [&](RestoreOptions options) { return failure_of(backup, options) == ExitStatus::kRefused; };
    auto options_here = options();
    EXPECT_TRUE(refused(options_here)) << message_;
    EXPECT_NE(message_.find("mine"), std::string::npos) << message_;
    options_here.destination = (base() / "file").string();
    EXPECT_TRUE(refused(options_here)) << message_;
    options_here.destination = (base() / "no" / "parent").string();
    EXPECT_TRUE(refused(options_here)) << message_;
    options_here.destination = (base() / "new").string();
    options_here.paths = {"a/nothing"};
    EXPECT_TRUE(refused(options_here)) << message_;
    auto damaged = backup;
    damaged.damaged = true;
    options_here.paths.clear();
    EXPECT_EQ(failure_of(damaged, options_here), ExitStatus::kRefused);
    auto huge = backup;
    huge.totals.data_bytes = std::uint64_t{1} << 60;
    EXPECT_EQ(failure_of(huge, options_here), ExitStatus::kRefused);
    EXPECT_NE(message_.find("space"), std::string::npos) << message_;
    EXPECT_EQ(names(), before);
    EXPECT_EQ(read_file(place() / "mine"), "keep");
}

TEST_F(Restore, RefusesADirectoryInUse) {
    fill();
    const auto backup = back_up();
    fs::create_directory(place());
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const bool good = ::chdir(place().c_str()) == 0 && ::write(ready[1], "x", 1) == 1;
        ::pause();
        ::_exit(good ? 0 : 1);
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_EQ(failure_of(backup), ExitStatus::kRefused) << message_;
    EXPECT_NE(message_.find("in use"), std::string::npos) << message_;
    EXPECT_NE(message_.find("cd"), std::string::npos) << message_;  // it may be the operator's own shell
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST_F(Restore, DryRunTellsAndTouchesNothing) {
    fill();
    const auto backup = back_up();
    const auto before = names();
    auto dry = options();
    dry.dry_run = true;
    const auto result = restore(backup, dry);
    EXPECT_EQ(names(), before);
    EXPECT_GE(result.bytes, 9'000'000U);
    EXPECT_GT(result.estimate.count(), 0);
    EXPECT_GE(result.required_bytes, result.bytes);
}

TEST_F(Restore, ChecksEveryBlockBeforeItLands) {
    fill();
    const auto backup = back_up();
    const auto pack = made_.data_pack();
    made_.flip(pack, made_.size(pack) / 2);
    EXPECT_EQ(failure_of(backup), ExitStatus::kDamaged);
    EXPECT_NE(message_.find(pack), std::string::npos) << message_;
    EXPECT_NE(message_.find("bytes"), std::string::npos) << message_;
    EXPECT_FALSE(fs::exists(place()));
    // Repaired, it goes on.
    made_.flip(pack, made_.size(pack) / 2);
    EXPECT_TRUE(restore(backup).resumed);
    EXPECT_EQ(picture_of(place()), picture_of(node()));
}

TEST_F(Restore, KeepsToItsRate) {
    write_file(node() / "file", random_content(random_, 8U << 20));
    auto slow = options();
    slow.limit_bytes_per_second = 16U << 20;
    const auto result = restore(back_up(), slow);
    EXPECT_GE(result.elapsed, std::chrono::milliseconds(300));
}

TEST_F(Restore, NamesOfAnyBytesAndPathsOfAnyLength) {
    write_file(node() / std::string("\xff\xfe\n\x01 name"), "bytes");
    write_file(node() / std::string(255, 'n'), "long");
    int at = ::open(node().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::string name(200, 'd');
    for (int level = 0; level < 150; ++level) {
        ASSERT_EQ(::mkdirat(at, name.c_str(), 0755), 0);
        const int below = ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_GE(below, 0);
        const int file = ::openat(at, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        ASSERT_EQ(::write(file, &level, sizeof level), static_cast<ssize_t>(sizeof level));
        ::close(file);
        ::close(at);
        at = below;
    }
    ::close(at);
    restore(back_up());
    EXPECT_EQ(read_file(place() / std::string("\xff\xfe\n\x01 name")), "bytes");
    at = ::open(place().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int level = 0; level < 150; ++level) {
        const int file = ::openat(at, "file", O_RDONLY | O_CLOEXEC);
        int found = -1;
        ASSERT_EQ(::read(file, &found, sizeof found), static_cast<ssize_t>(sizeof found));
        EXPECT_EQ(found, level);
        ::close(file);
        const int below = ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_GE(below, 0) << level;
        ::close(at);
        at = below;
    }
    ::close(at);
    run({"rm", "-rf", place().string(), node().string()});
}

}  // namespace
}  // namespace nodesnap::test
