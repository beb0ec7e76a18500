// Incremental backups from snapshots made of clones, from the inside. What they hold is compared end to end, in
// tests/end_to_end/test_reflink.py.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "platform/entry.h"
#include "platform/file.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/backup.h"
#include "snapshot/run_reader.h"
#include "snapshot/tree_path.h"
#include "snapshot/verify.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/loop_mount.h"
#include "tests/support/strict_target.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

class ReflinkIncrementalTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("xfs");
        mount_.emplace("xfs", std::uint64_t{512} << 20, std::vector<std::string>{"-m", "reflink=1"});
        fs::create_directory(node());
        write("large", 4 << 20, 'a');
        write("small", 5000, 'b');
        write("tiny", 50, 'c');
        target_ = test::StrictTarget::make();
        Repository::create(*target_, "n1");
    }
    std::string node() const { return *mount_ / "node"; }
    void write(const std::string& name, std::size_t size, char content) const {
        std::ofstream(node() + "/" + name, std::ios::binary) << std::string(size, content);
    }
    void overwrite(const std::string& name, std::size_t offset, const std::string& content) const {
        std::fstream file(node() + "/" + name, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file << content;
    }
    BackupResult backup(BackupOptions options = {}) {
        options.node_directory = node();
        options.backend.kind = "reflink";
        options.state_directory = scratch_ / "state";
        options.scratch_directory = scratch_.path();
        Repository repository = Repository::open(target_, {});
        Progress progress;
        return run_backup(repository, options, progress, report_);
    }
    std::string content_of(const Manifest& manifest, const std::string& name) const {
        const Repository repository = Repository::open(target_, {});
        const auto found = find_path(repository, manifest, name);
        const Inode& inode = found->second;
        std::string content(inode.size, '\0');
        if (inode.run_count == 0) {
            content.assign(reinterpret_cast<const char*>(inode.content.data()), inode.content.size());
        } else {
            MapReader(repository, inode, name).read(std::as_writable_bytes(std::span(content)), 0);
        }
        return content;
    }
    std::string snapshot() const {
        for (const auto& entry : fs::directory_iterator(*mount_ / ".nodesnap")) {
            if (entry.path().filename() != ".unfinished") {
                return entry.path();
            }
        }
        return "";
    }
    bool verifies() {
        Repository repository = Repository::open(target_, {});
        VerifyOptions options;
        options.data = true;
        options.scratch_directory = scratch_.path();
        Progress progress;
        return run_verify(repository, options, progress).damage_count == 0;
    }

    std::optional<test::LoopMount> mount_;
    test::ScratchDirectory scratch_{"nodesnap-reflink"};
    std::shared_ptr<test::StrictTarget> target_;
    Report report_;
};

TEST_F(ReflinkIncrementalTest, OnlyWhatChangedIsReadAndASampleOfTheRestIsAudited) {
    const BackupResult first = backup();
    EXPECT_EQ(first.audited_bytes, 0U);
    EXPECT_EQ(first.manifest.root_ino, stat_path(node())->stx_ino);
    const BackupResult second = backup();
    EXPECT_EQ(second.parent_missing, "");
    EXPECT_EQ(second.manifest.totals.read_bytes, 0U);
    EXPECT_GE(second.audited_bytes, 1U << 20);
    EXPECT_EQ(second.manifest.totals.data_bytes, first.manifest.totals.data_bytes);
    overwrite("large", 8192, "changed");
    const BackupResult third = backup();
    EXPECT_EQ(third.manifest.totals.read_bytes, 4096U);
    std::string expected(4 << 20, 'a');
    expected.replace(8192, 7, "changed");
    EXPECT_EQ(content_of(third.manifest, "large"), expected);
    EXPECT_EQ(content_of(third.manifest, "small"), std::string(5000, 'b'));
    EXPECT_EQ(content_of(third.manifest, "tiny"), std::string(50, 'c'));
    EXPECT_TRUE(verifies());
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(ReflinkIncrementalTest, ADryRunTellsWhatIsReadThen) {
    backup();
    overwrite("large", 1 << 20, "changed");
    write("small", 5001, 'd');
    write("new", 70'000, 'n');
    BackupOptions options;
    options.node_directory = node();
    options.backend.kind = "reflink";
    options.state_directory = scratch_ / "state";
    options.scratch_directory = scratch_.path();
    Progress progress;
    const BackupPlan plan = plan_backup(Repository::open(target_, {}), options, progress, report_);
    EXPECT_EQ(plan.parent_missing, "");
    const BackupResult made = backup();
    EXPECT_EQ(plan.read_bytes, made.manifest.totals.read_bytes);
    EXPECT_EQ(plan.files, 3U);
}

// The parent's clone and the node's file come to have the same blocks, which the backup doesn't hold; and the index is made to fit.
TEST_F(ReflinkIncrementalTest, AChangeListThatLiesIsToldAndEverythingIsReadInstead) {
    backup();
    write("large", 4 << 20, 'x');
    const std::string clone = snapshot() + "/tree/large";
    {
        const FileDescriptor from = open_path(node() + "/large", O_RDONLY);
        const FileDescriptor to = open_path(clone, O_RDWR);
        ASSERT_EQ(entry::clone_file(from.get(), to.get()), 0);
    }
    // Unlike `cp`, which keeps the file; what is there is what was cloned into it.
    const std::string before = snapshot();
    fs::remove(before + "/index");
    const FileDescriptor directory = open_path(before, O_RDONLY | O_DIRECTORY);
    const FileDescriptor tree = open_path(before + "/tree", O_RDONLY | O_DIRECTORY);
    CloneIndex::build(tree.get(), directory.get(), before);
    const BackupResult second = backup();
    EXPECT_EQ(second.parent_missing, "the file system's change list was wrong");
    EXPECT_EQ(report_.count(), 1U);
    EXPECT_EQ(content_of(second.manifest, "large"), std::string(4 << 20, 'x'));
}

TEST_F(ReflinkIncrementalTest, ACloneThatWasTouchedIsNotBelieved) {
    backup();
    const std::string clone = snapshot() + "/tree/large";
    ASSERT_EQ(::truncate(clone.c_str(), 100), 0);
    ASSERT_EQ(::truncate(clone.c_str(), 4 << 20), 0);
    BackupOptions all;
    all.audit = true;
    const BackupResult second = backup(all);
    EXPECT_EQ(second.parent_missing, "");
    EXPECT_EQ(second.manifest.totals.read_bytes, 4U << 20);
    EXPECT_EQ(content_of(second.manifest, "large"), std::string(4 << 20, 'a'));
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(ReflinkIncrementalTest, WithoutItsIndexEverythingIsReadAndOnlyDifferencesAreStored) {
    backup();
    fs::remove(snapshot() + "/index");
    const BackupResult second = backup();
    EXPECT_EQ(second.manifest.totals.read_bytes, (4U << 20) + 5000 + 50);
    EXPECT_LT(second.manifest.totals.stored_bytes, 100'000U);
    EXPECT_TRUE(verifies());
}

TEST_F(ReflinkIncrementalTest, ATreeThatHasNoOriginIsNotDrained) {
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "backup.snapshot-recorded") {
            test::run({"setfattr", "-x", kCloneOriginAttribute, snapshot() + "/tree/small"});
        }
    });
    try {
        backup();
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("small"), std::string::npos) << error.message();
    }
    hooks.on_each_step({});
    EXPECT_EQ(content_of(backup().manifest, "small"), std::string(5000, 'b'));
}

TEST_F(ReflinkIncrementalTest, AParentThatWasCopiedProvesNothing) {
    backup();
    const std::string path = snapshot();
    test::run({"cp", "-a", "--reflink=always", path, *mount_ / "copy"});
    fs::remove_all(path);
    fs::rename(*mount_ / "copy", path);
    const BackupResult second = backup();
    EXPECT_NE(second.parent_missing.find("was replaced by a copy"), std::string::npos) << second.parent_missing;
    EXPECT_EQ(second.manifest.totals.read_bytes, (4U << 20) + 5000 + 50);
}

TEST_F(ReflinkIncrementalTest, KindsOfSnapshotsMayChange) {
    BackupOptions none;
    const BackupResult first = backup();
    none.node_directory = node();
    none.backend.kind = "none";
    none.state_directory = scratch_ / "state";
    none.scratch_directory = scratch_.path();
    Repository repository = Repository::open(target_, {});
    Progress progress;
    const BackupResult second = run_backup(repository, none, progress, report_);
    EXPECT_LT(second.manifest.totals.stored_bytes, 100'000U) << "the files are known by their own numbers";
    EXPECT_EQ(second.manifest.root_ino, first.manifest.root_ino);
    EXPECT_EQ(backup().parent_missing, "") << "the first one's snapshot is still there";
}

}  // namespace
}  // namespace nodesnap
