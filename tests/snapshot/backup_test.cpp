// Backups of plain directories into the strict in-memory target, read back through the repository. Fault loops and the order of writes.
#include "snapshot/backup.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>

#include "platform/error.h"
#include "snapshot/directory_place.h"
#include "snapshot/run_reader.h"
#include "snapshot/tree_path.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/strict_target.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

std::string random_content(std::mt19937_64& random, std::size_t size) {
    std::string content(size, '\0');
    for (char& c : content) {
        c = static_cast<char>(random());
    }
    return content;
}

void write_file(const fs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

class BackupTest : public testing::Test {
protected:
    void SetUp() override {
        std::string name = (fs::temp_directory_path() / "nodesnap-backup-test.XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        base_ = name;
        fs::create_directory(node());
        target_ = test::StrictTarget::make();
        Repository::create(*target_, "n1");
    }
    void TearDown() override { fs::remove_all(base_); }

    fs::path node() const { return base_ / "node"; }
    BackupOptions options() const {
        BackupOptions options;
        options.node_directory = node().string();
        options.backend.kind = "none";
        options.state_directory = (base_ / "state").string();
        options.scratch_directory = base_.string();
        return options;
    }
    Repository open() const {
        return Repository::open(target_, [](const Damage& damage) { ADD_FAILURE() << damage.object << ": " << damage.what; });
    }
    BackupResult backup(const BackupOptions& options) {
        Repository repository = open();
        Progress progress;
        return run_backup(repository, options, progress, report_);
    }
    Inode inode_at(const Repository& repository, const Manifest& manifest, const std::string& path) {
        const auto found = find_path(repository, manifest, path);
        EXPECT_TRUE(found) << path;
        return found ? found->second : Inode{};
    }
    std::string content_at(const Repository& repository, const Manifest& manifest, const std::string& path) {
        const Inode inode = inode_at(repository, manifest, path);
        std::string content(inode.size, '\0');
        if (!inode.content.empty()) {
            std::memcpy(content.data(), inode.content.data(), content.size());
        } else {
            MapReader(repository, inode, path).read(std::as_writable_bytes(std::span(content)), 0);
        }
        return content;
    }
    std::size_t visible_backups() {
        std::size_t count = 0;
        open().for_each_backup([&](const BackupEntry& entry) { count += entry.manifest ? 1 : 0; });
        return count;
    }

    fs::path base_;
    std::shared_ptr<test::StrictTarget> target_;
    Report report_;
};

void expect_equal_trees(BackupTest& test, const fs::path& node, const std::function<std::string(const std::string&)>& stored) {
    (void)test;
    for (const auto& entry : fs::recursive_directory_iterator(node)) {
        if (entry.is_regular_file()) {
            std::ifstream in(entry.path(), std::ios::binary);
            const std::string original((std::istreambuf_iterator<char>(in)), {});
            const std::string path = fs::relative(entry.path(), node).string();
            EXPECT_TRUE(original == stored(path)) << path << " differs";
        }
    }
}

// Sizes around every border of the format: inline content, plain small files, blocks, segments, chunks.
void make_border_files(const fs::path& node, std::mt19937_64& random) {
    fs::create_directories(node / "a" / "b");
    for (const std::size_t size : {0UL, 1UL, 2048UL, 2049UL, 4095UL, 4096UL, 16384UL, 16385UL, 65536UL, 65537UL, 1048575UL, 1048576UL,
                                   1048577UL, 5000000UL, 40UL << 20}) {
        write_file(node / "a" / ("size" + std::to_string(size)), random_content(random, size));
    }
    for (int i = 0; i < 700; ++i) {
        write_file(node / "a" / "b" / ("small" + std::to_string(i)), random_content(random, random() % 9000));
    }
}

TEST_F(BackupTest, EveryFileComesBackByteForByte) {
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    make_border_files(node(), random);
    for (const bool blocking : {false, true}) {
        BackupOptions with = options();
        with.force_blocking = blocking;
        const Manifest manifest = backup(with).manifest;
        EXPECT_EQ(manifest.totals.files, 715U);
        EXPECT_EQ(manifest.totals.directories, 3U);
        const Repository repository = open();
        expect_equal_trees(*this, node(), [&](const std::string& path) { return content_at(repository, manifest, path); });
    }
}

TEST_F(BackupTest, SmallBackupIsOneDataPackAndOneMetadataPack) {
    std::mt19937_64 random(1);
    for (int i = 0; i < 50; ++i) {
        write_file(node() / std::to_string(i), random_content(random, 100'000));
    }
    EXPECT_EQ(backup(options()).manifest.packs.size(), 2U);
}

TEST_F(BackupTest, HolesAndUnwrittenExtentsStayHoles) {
    const int fd = ::open((node() / "sparse").c_str(), O_RDWR | O_CREAT, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::ftruncate(fd, 1LL << 40), 0);
    const std::string data(8192, 'x');
    ASSERT_EQ(::pwrite(fd, data.data(), data.size(), 1LL << 30), 8192);
    if (::fallocate(fd, 0, 1LL << 35, 1 << 20) != 0) {
        ::close(fd);
        GTEST_SKIP() << "no fallocate on " << base_;
    }
    ::close(fd);
    const auto result = backup(options());
    EXPECT_EQ(result.manifest.totals.read_bytes, 8192U);
    const Repository repository = open();
    const Inode inode = inode_at(repository, result.manifest, "sparse");
    EXPECT_EQ(inode.size, 1ULL << 40);
    ASSERT_EQ(inode.runs.size(), 2U);
    EXPECT_EQ(inode.runs[0].offset, 1ULL << 30);
    EXPECT_EQ(inode.runs[0].length, 8192U);
    EXPECT_EQ(inode.runs[1].flags, Run::kUnwritten);
    EXPECT_EQ(inode.runs[1].offset, 1ULL << 35);
    EXPECT_EQ(inode.runs[1].length, 1U << 20);
}

TEST_F(BackupTest, HardLinkedFileIsStoredOnce) {
    std::mt19937_64 random(2);
    write_file(node() / "one", random_content(random, 300'000));
    fs::create_hard_link(node() / "one", node() / "two");
    fs::create_hard_link(node() / "one", node() / "three");
    const auto result = backup(options());
    EXPECT_EQ(result.manifest.totals.read_bytes, 300'000U);
    const Repository repository = open();
    const auto one = find_path(repository, result.manifest, "one");
    const auto two = find_path(repository, result.manifest, "two");
    ASSERT_TRUE(one && two);
    EXPECT_EQ(one->first, two->first);
    EXPECT_EQ(one->second.links, 3U);
}

TEST_F(BackupTest, ExcludedFilesAreLeftOut) {
    fs::create_directories(node() / "cache");
    write_file(node() / "cache" / "x", "x");
    write_file(node() / "a.tmp", "x");
    write_file(node() / "kept", "x");
    BackupOptions with = options();
    with.excludes = {"/cache", "*.tmp"};
    const auto result = backup(with);
    const Repository repository = open();
    EXPECT_TRUE(find_path(repository, result.manifest, "kept"));
    EXPECT_FALSE(find_path(repository, result.manifest, "a.tmp"));
    EXPECT_FALSE(find_path(repository, result.manifest, "cache"));
}

TEST_F(BackupTest, DirectoriesDeeperThanTheOpenLevelsAndPathMaxAreWalked) {
    constexpr int kDepth = 200;  // of 30 bytes: more than PATH_MAX
    const std::string name(30, 'd');
    int directory = ::open(node().c_str(), O_RDONLY | O_DIRECTORY);
    std::string path;
    for (int level = 0; level < kDepth; ++level) {
        ASSERT_EQ(::mkdirat(directory, name.c_str(), 0755), 0);
        const int next = ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY);
        ::close(directory);
        directory = next;
        // Before and after the subdirectory in most listings.
        for (const char* leaf : {"a", "z"}) {
            ::close(::openat(directory, leaf, O_CREAT | O_WRONLY, 0644));
        }
        path += (path.empty() ? "" : "/") + name;
    }
    ::close(directory);
    const auto result = backup(options());
    EXPECT_EQ(result.manifest.totals.directories, kDepth + 1U);
    EXPECT_EQ(result.manifest.totals.files, 2U * kDepth);
    const Repository repository = open();
    EXPECT_TRUE(find_path(repository, result.manifest, path + "/z"));
}

TEST_F(BackupTest, UnreadableFileFailsTheBackupOrMarksItDamaged) {
    std::mt19937_64 random(3);
    write_file(node() / "bad", random_content(random, 3 << 20));
    write_file(node() / "good", random_content(random, 4096));
    test::FaultHooks hooks;
    bool for_good = true;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "backup.snapshot-recorded") {  // what is read from here on is the node's
            hooks.fail_nth(1, EIO, for_good, "read");
        }
    });
    try {
        backup(options());
        FAIL() << "a backup of an unreadable file succeeded";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kFailed);
        EXPECT_EQ(error.error_number(), EIO);
    }
    hooks.stop_failing();
    EXPECT_EQ(visible_backups(), 0U);

    for_good = false;
    BackupOptions with = options();
    with.skip_unreadable = true;
    const auto result = backup(with);
    hooks.stop_failing();
    EXPECT_TRUE(result.manifest.damaged);
    EXPECT_EQ(result.manifest.totals.unreadable_files, 1U);
    EXPECT_GE(report_.count(), 1U);
    // Marked damaged, it is never the default.
    EXPECT_THROW(open().find_backup("latest"), Error);
}

// Fails the Nth operation for N = 1, 2, 3 ... until a run meets no fault. After each failure nothing new is visible and nothing is left
// behind that the next backup, which must succeed, doesn't clear up.
void fault_loop(BackupTest& test, bool for_good, const std::function<void()>& attempt, const std::function<std::size_t()>& visible,
                const std::function<void()>& healthy) {
    (void)test;
    std::uint64_t points = 0;
    for (std::uint64_t nth = 1;; ++nth) {
        const std::size_t before = visible();
        bool failed = false;
        std::uint64_t injected = 0;
        {
            test::FaultHooks hooks;
            hooks.fail_nth(nth, EIO, for_good);
            try {
                attempt();
            } catch (const Error&) {
                failed = true;
            }
            injected = hooks.injected();
        }
        if (injected == 0) {
            ASSERT_FALSE(failed);
            break;
        }
        ++points;
        // An operation that failed may be one whose failure is only a warning (after the manifest), or one that was repeated.
        ASSERT_LE(visible(), before + 1) << "at point " << nth;
        if (failed) {
            ASSERT_LE(visible(), before + 1) << "at point " << nth;
        } else {
            ASSERT_EQ(visible(), before + 1) << "at point " << nth;
        }
        if (nth % 16 == 0) {
            ASSERT_NO_FATAL_FAILURE(healthy()) << "at point " << nth;
        }
    }
    std::cout << "injected points" << (for_good ? ", each from there on for good" : "") << ": " << points << '\n';
    EXPECT_GT(points, 20U);
}

TEST_F(BackupTest, FailingTheNthOperationLosesNothing) {
    std::mt19937_64 random(4);
    for (int i = 0; i < 12; ++i) {
        write_file(node() / std::to_string(i), random_content(random, 3000 + 200'000 * (i % 3 == 0)));
    }
    backup(options());
    for (const bool for_good : {false, true}) {
        fault_loop(
            *this, for_good, [this] { backup(options()); }, [this] { return visible_backups(); },
            [this] {
                const Manifest manifest = backup(options()).manifest;
                const Repository repository = open();
                expect_equal_trees(*this, node(), [&](const std::string& path) { return content_at(repository, manifest, path); });
                EXPECT_TRUE(repository.sessions().empty());
            });
    }
    EXPECT_EQ(target_->unfinished(), 0U);
}

TEST_F(BackupTest, AnotherNodesDirectoryIsRefused) {
    write_file(node() / "x", "x");
    backup(options());
    fs::create_directory(base_ / "other");
    BackupOptions other = options();
    other.node_directory = (base_ / "other").string();
    try {
        backup(other);
        FAIL() << "two nodes were mixed in one repository";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kRefused);
    }
    other.adopt_node = true;
    EXPECT_NO_THROW(backup(other));
}

TEST_F(BackupTest, FileThatChangesWhileItIsReadFailsABackupWithoutSnapshot) {
    write_file(node() / "x", std::string(100'000, 'x'));
    test::FaultHooks hooks;
    bool changed = false;
    Repository repository = open();
    Progress progress;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "drain.range-read" && !changed) {
            changed = true;
            std::ofstream(node() / "x", std::ios::app) << "more";
        }
    });
    EXPECT_THROW(run_backup(repository, options(), progress, report_), Error);
    EXPECT_TRUE(changed);
    EXPECT_EQ(visible_backups(), 0U);
}

// Changes a file's size before the Nth read.
class ResizeAtRead : public test::FaultHooks {
public:
    ResizeAtRead(fs::path file, std::uintmax_t size, int nth) : file_(std::move(file)), size_(size), nth_(nth) {}
    int on_operation(const char* operation) noexcept override {
        if (std::string_view(operation) == "read" && --nth_ == 0) {
            std::error_code ignored;
            fs::resize_file(file_, size_, ignored);
        }
        return FaultHooks::on_operation(operation);
    }
    bool passed() const { return nth_ <= 0; }

private:
    const fs::path file_;
    const std::uintmax_t size_;
    std::atomic<int> nth_;
};

TEST_F(BackupTest, FileThatGrowsOrShrinksBeforeItIsReadIsNoFailureOfItsDisk) {
    for (const std::uintmax_t before : {700, 9'000}) {
        for (const std::uintmax_t size : {before + 500, before - 500}) {
            bool noticed = false;
            bool passed = true;
            for (int nth = 1; passed; ++nth) {
                fs::remove(node() / "small");
                write_file(node() / "small", std::string(before, 'x'));
                ResizeAtRead hooks(node() / "small", size, nth);
                Repository repository = open();
                Progress progress;
                try {
                    run_backup(repository, options(), progress, report_);
                } catch (const Error& error) {
                    EXPECT_NE(error.message().find("changed while it was read"), std::string::npos) << error.message();
                    noticed = noticed || error.message().find("file changed") == 0;
                }
                passed = hooks.passed();
            }
            EXPECT_TRUE(noticed) << before << " to " << size;
        }
    }
}

class ChangeWhileRead : public BackupTest, public testing::WithParamInterface<std::string> {
protected:
    void change(const std::string& what) {
        if (what == "a new file") {
            write_file(node() / "d" / "new", "new");
        } else if (what == "a file removed") {
            fs::remove(node() / "d" / "drained");
        } else if (what == "a file that was drained before") {
            std::ofstream(node() / "d" / "drained") << "X";  // of the same size
        } else if (what == "a mode") {
            ASSERT_EQ(::chmod((node() / "d").c_str(), 0700), 0);
        } else {
            fs::rename(node() / "d" / "drained", node() / "renamed");
        }
    }
    Consistency backup_that_is_disturbed(const BackupOptions& with) {
        test::FaultHooks hooks;
        bool changed = false;
        hooks.on_each_step([&](const std::string& step) {
            if (step == "drain.range-read" && !changed) {
                changed = true;
                change(GetParam());
            }
        });
        Repository repository = open();
        Progress progress;
        const auto result = run_backup(repository, with, progress, report_);
        EXPECT_TRUE(changed);
        return result.manifest.consistency;
    }
};

TEST_P(ChangeWhileRead, FailsABackupWithoutSnapshotOrIsRecorded) {
    fs::create_directory(node() / "d");
    write_file(node() / "d" / "drained", "x");
    write_file(node() / "large", std::string(100'000, 'x'));
    EXPECT_THROW(backup_that_is_disturbed(options()), Error);
    EXPECT_EQ(visible_backups(), 0U);

    fs::remove_all(node() / "d");
    fs::remove(node() / "renamed");
    fs::create_directory(node() / "d");
    write_file(node() / "d" / "drained", "x");
    BackupOptions with = options();
    with.backend.accept_inconsistent = true;
    EXPECT_EQ(backup_that_is_disturbed(with), Consistency::kInconsistent);
    EXPECT_EQ(backup(options()).manifest.consistency, Consistency::kPointInTime);  // what was changed before is no change
}

INSTANTIATE_TEST_SUITE_P(Kinds, ChangeWhileRead,
                         testing::Values("a new file", "a file removed", "a file that was drained before", "a mode", "a rename"));

TEST_F(BackupTest, FileWhoseExtentsCannotBeToldIsReadAllTheSame) {
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    const int fd = ::open((node() / "fragments").c_str(), O_RDWR | O_CREAT, 0600);
    ASSERT_GE(fd, 0);
    for (int page = 0; page < 1200; page += 2) {  // more extents than one look at the map shows
        const std::string content = random_content(random, 4096);
        ASSERT_EQ(::pwrite(fd, content.data(), content.size(), page * 4096), 4096);
    }
    ::close(fd);
    test::FaultHooks hooks;
    for (const std::uint64_t nth : {1, 2}) {
        hooks.fail_nth(nth, EIO, true, "fiemap");
        EXPECT_THROW(backup(options()), Error);
        hooks.fail_nth(nth, EIO, true, "fiemap");
        BackupOptions with = options();
        with.skip_unreadable = true;
        const Manifest manifest = backup(with).manifest;
        if (hooks.injected() == 0) {
            GTEST_SKIP() << "no FIEMAP on " << base_;
        }
        hooks.stop_failing();
        EXPECT_TRUE(manifest.damaged);
        const Repository repository = open();
        expect_equal_trees(*this, node(), [&](const std::string& path) { return content_at(repository, manifest, path); });
    }
}

TEST_F(BackupTest, ManyLargeFilesEndWithoutIoUringToo) {
    for (int i = 0; i < 600; ++i) {
        write_file(node() / std::to_string(i), std::string(17'000, 'x'));
    }
    BackupOptions with = options();
    with.force_blocking = true;
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(backup(with).manifest.totals.files, 600U);
    }
}

TEST(DirectoryPlace, PathsArePutTogetherAndLongChainsEnd) {
    DirectoryPlace place;
    EXPECT_EQ(place.path(), "");
    EXPECT_EQ(place.path_of("x"), "x");
    place = DirectoryPlace(place, "a");
    place = DirectoryPlace(place, "bc");
    EXPECT_EQ(place.path(), "a/bc");
    EXPECT_EQ(place.path_of("x"), "a/bc/x");
    EXPECT_EQ(place.path_of(""), "a/bc");
    const DirectoryPlace kept = place;
    for (int level = 0; level < 1'000'000; ++level) {
        place = DirectoryPlace(place, "d");
    }
    EXPECT_TRUE(place.path().starts_with(".../d/d/"));
    EXPECT_EQ(place.path().size(), DirectoryPlace::kShownBytes + 3);
    place = {};
    EXPECT_EQ(kept.path(), "a/bc");
}

}  // namespace
}  // namespace nodesnap
