// Incremental backups from snapshots made of links, from the inside. What they hold is compared end to end, in
// tests/end_to_end/test_hardlink.py.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/file.h"
#include "platform/xattr.h"
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

constexpr std::size_t kTable = 4 << 20;

class HardlinkIncrementalTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        const std::string type = GetParam();
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        mount_.emplace(type, std::uint64_t{512} << 20,
                       type == "xfs" ? std::vector<std::string>{"-m", "reflink=0"} : std::vector<std::string>{});
        fs::create_directory(node());
        write("large.sst", kTable, 'a');
        write("small.sst", 5000, 'b');
        write("tiny.sst", 50, 'c');
        write("log", 10'000, 'd');
        next_stamp_ns();
        target_ = test::StrictTarget::make();
        Repository::create(*target_, "n1");
    }
    std::string node() const { return *mount_ / "node"; }
    void write(const std::string& name, std::size_t size, char content) const {
        std::ofstream(node() + "/" + name, std::ios::binary) << std::string(size, content);
    }
    // Without a trace in the modification time.
    void overwrite(const std::string& name, std::size_t offset, const std::string& content) const {
        const std::string path = node() + "/" + name;
        const FileStatus before = *stat_path(path);
        {
            const FileDescriptor file = open_path(path, O_WRONLY);
            pwrite_all(file.get(), std::as_bytes(std::span(content)), offset, path);
        }
        const FileDescriptor file = open_path(path, O_RDONLY);
        entry::set_times(file.get(),
                         {before.stx_atime.tv_sec, before.stx_atime.tv_nsec, before.stx_mtime.tv_sec, before.stx_mtime.tv_nsec});
    }
    BackupOptions complete(BackupOptions options) const {
        options.node_directory = node();
        options.backend.kind = "hardlink";
        options.backend.immutable = {"*.sst"};
        options.state_directory = scratch_ / "state";
        options.scratch_directory = scratch_.path();
        return options;
    }
    BackupResult backup(const BackupOptions& options = {}) {
        Repository repository = Repository::open(target_, {});
        Progress progress;
        return run_backup(repository, complete(options), progress, report_);
    }
    std::string failure_of_backup(const BackupOptions& options = {}) {
        try {
            backup(options);
        } catch (const Error& error) {
            return error.message();
        }
        ADD_FAILURE() << "no error";
        return "";
    }
    Inode record_of(const Manifest& manifest, const std::string& name) const {
        return find_path(Repository::open(target_, {}), manifest, name)->second;
    }
    std::string content_of(const Manifest& manifest, const std::string& name) const {
        const Repository repository = Repository::open(target_, {});
        const Inode inode = record_of(manifest, name);
        std::string content(inode.size, '\0');
        if (inode.run_count == 0) {
            content.assign(reinterpret_cast<const char*>(inode.content.data()), inode.content.size());
        } else {
            MapReader(repository, inode, name).read(std::as_writable_bytes(std::span(content)), 0);
        }
        return content;
    }
    void expect_stored(const Manifest& manifest) const {
        for (const auto& entry : fs::directory_iterator(node())) {
            std::ifstream file(entry.path(), std::ios::binary);
            const std::string content{std::istreambuf_iterator<char>(file), {}};
            EXPECT_TRUE(content_of(manifest, entry.path().filename()) == content) << entry.path();
        }
    }
    std::size_t snapshots() const {
        std::size_t count = 0;
        for (const std::string& directory : {*mount_ / ".nodesnap", *mount_ / ".nodesnap/.unfinished"}) {
            for (const auto& entry : fs::exists(directory) ? fs::directory_iterator(directory) : fs::directory_iterator()) {
                count += entry.path().filename() != ".unfinished" ? 1 : 0;
            }
        }
        return count;
    }
    std::size_t backups() const {
        std::size_t count = 0;
        Repository::open(target_, {}).for_each_backup([&](const BackupEntry&) { ++count; });
        return count;
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
    test::ScratchDirectory scratch_{"nodesnap-hardlink"};
    std::shared_ptr<test::StrictTarget> target_;
    Report report_;
};

INSTANTIATE_TEST_SUITE_P(OnEach, HardlinkIncrementalTest, testing::Values("ext4", "xfs"),
                         [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); });

TEST_P(HardlinkIncrementalTest, TablesAreNotReadAgainAndASampleIsAudited) {
    const BackupResult first = backup();
    EXPECT_EQ(first.backend, "hardlink");
    EXPECT_EQ(first.manifest.totals.read_bytes, kTable + 5000 + 50 + 10'000);
    EXPECT_EQ(record_of(first.manifest, "large.sst").links, 1U);
    for (int round = 0; round < 3; ++round) {
        const BackupResult again = backup();
        EXPECT_EQ(again.parent_missing, "");
        EXPECT_EQ(again.manifest.totals.read_bytes, 10'000U) << "only the copies are read, and compared";
        EXPECT_GE(again.audited_bytes, 1U << 20);
        EXPECT_EQ(again.manifest.totals.data_bytes, first.manifest.totals.data_bytes);
        EXPECT_LT(again.manifest.totals.stored_bytes, 16U << 10);
        EXPECT_TRUE(record_of(again.manifest, "large.sst") == record_of(first.manifest, "large.sst")) << "its links leave no trace";
        EXPECT_EQ(snapshots(), 1U);
    }
    write("new.sst", 70'000, 'n');
    fs::remove(node() + "/tiny.sst");
    const BackupResult last = backup();
    EXPECT_EQ(last.manifest.totals.read_bytes, 80'000U);
    expect_stored(last.manifest);
    EXPECT_TRUE(verifies());
    EXPECT_EQ(report_.count(), 0U);
}

TEST_P(HardlinkIncrementalTest, APatternThatLiesCostsReadingBetweenBackups) {
    backup();
    next_stamp_ns();
    overwrite("large.sst", 1 << 20, "changed");
    overwrite("small.sst", 10, "changed");
    overwrite("tiny.sst", 10, "changed");
    xattr::set_at(AT_FDCWD, node() + "/tiny.sst", "user.of", {});
    const BackupResult second = backup();
    EXPECT_EQ(second.parent_missing, "");
    EXPECT_EQ(second.manifest.totals.read_bytes, kTable + 5000 + 50 + 10'000);
    EXPECT_LT(second.manifest.totals.stored_bytes, 64U << 10) << "what is read is compared";
    EXPECT_EQ(record_of(second.manifest, "tiny.sst").xattr_count, 1U);
    expect_stored(second.manifest);
    EXPECT_EQ(backup().manifest.totals.read_bytes, 10'000U);
}

TEST_P(HardlinkIncrementalTest, APatternThatLiesMakesABackupFailThatIsDrained) {
    for (const bool first : {true, false}) {
        for (const char* step : {"backup.snapshot-recorded", "drain.range-read"}) {
            if (!first && step == std::string("drain.range-read")) {
                continue;  // what is compared isn't read there
            }
            write("victim.sst", kTable, 'v');
            next_stamp_ns();
            test::FaultHooks hooks;
            bool done = false;
            hooks.on_each_step([&](const std::string& passed) {
                if (passed == step && !done) {
                    done = true;
                    overwrite("victim.sst", 3 << 20, "changed");
                }
            });
            EXPECT_NE(failure_of_backup().find("victim.sst was changed"), std::string::npos) << step << first;
            hooks.on_each_step({});
            EXPECT_EQ(backups(), first ? 0U : 1U);
            EXPECT_EQ(snapshots(), first ? 0U : 1U) << "such a snapshot isn't gone on with";
        }
        if (first) {
            const BackupResult made = backup();
            EXPECT_FALSE(made.resumed);
            expect_stored(made.manifest);
        }
    }
    const BackupResult made = backup();
    EXPECT_FALSE(made.resumed);
    expect_stored(made.manifest);
    EXPECT_TRUE(verifies());
}

// Although parts of it were stored, and their packs have logs.
TEST_P(HardlinkIncrementalTest, ASnapshotThatIsSpoiltIsNotGoneOnWith) {
    write("victim.sst", 24 << 20, 'v');
    next_stamp_ns();
    BackupOptions options;
    options.workers = 1;
    options.sizes.data_pack_bytes = 4 << 20;
    {
        test::FaultHooks hooks;
        bool done = false;
        hooks.on_each_step([&](const std::string& passed) {
            if (passed == "drain.pack-logged" && !done) {
                done = true;
                overwrite("victim.sst", (24 << 20) - 10, "changed");
            }
        });
        EXPECT_NE(failure_of_backup(options).find("victim.sst was changed"), std::string::npos);
        EXPECT_GE(hooks.steps("drain.pack-logged"), 1U) << "there is nothing that could be gone on with";
    }
    EXPECT_EQ(snapshots(), 0U);
    const BackupResult made = backup(options);
    EXPECT_FALSE(made.resumed);
    EXPECT_EQ(made.resume_refused, "");
    expect_stored(made.manifest);
}

// A table that the daemon removes, or renames to remove it later, is in the snapshot all the same.
TEST_P(HardlinkIncrementalTest, WhatTheDaemonRemovesMeanwhileIsStored) {
    test::FaultHooks hooks;
    bool done = false;
    hooks.on_each_step([&](const std::string& passed) {
        if (passed == "backup.snapshot-recorded" && !done) {
            done = true;
            fs::remove(node() + "/small.sst");
            fs::rename(node() + "/large.sst", node() + "/large.sst.trash");
        }
    });
    const BackupResult made = backup();
    hooks.on_each_step({});
    EXPECT_TRUE(content_of(made.manifest, "large.sst") == std::string(kTable, 'a'));
    EXPECT_TRUE(content_of(made.manifest, "small.sst") == std::string(5000, 'b'));
    expect_stored(backup().manifest);
}

// What was taken over is as it was while the snapshot was made, whatever becomes of the link.
TEST_P(HardlinkIncrementalTest, WhatIsTakenOverNeedsNoLook) {
    const BackupResult first = backup();
    test::FaultHooks hooks;
    bool done = false;
    hooks.on_each_step([&](const std::string& passed) {
        if (passed == "backup.snapshot-recorded" && !done) {
            done = true;
            next_stamp_ns();
            overwrite("large.sst", 0, "changed");
        }
    });
    const BackupResult second = backup();
    hooks.on_each_step({});
    EXPECT_TRUE(content_of(second.manifest, "large.sst") == std::string(kTable, 'a'));
    EXPECT_EQ(report_.count(), 0U) << "the audit leaves out what was changed since";
    const BackupResult third = backup();
    EXPECT_EQ(third.manifest.totals.read_bytes, kTable + 10'000);
    expect_stored(third.manifest);
}

TEST_P(HardlinkIncrementalTest, ADryRunTellsWhatIsReadThen) {
    backup();
    next_stamp_ns();
    overwrite("small.sst", 1, "changed");
    write("new.sst", 70'000, 'n');
    Progress progress;
    const BackupPlan plan = plan_backup(Repository::open(target_, {}), complete({}), progress, report_);
    EXPECT_EQ(plan.parent_missing, "");
    const BackupResult made = backup();
    EXPECT_EQ(plan.read_bytes, made.manifest.totals.read_bytes);
    EXPECT_EQ(plan.read_bytes, 5000U + 70'000 + 10'000);
}

TEST_P(HardlinkIncrementalTest, WithoutItsIndexEverythingIsReadAndOnlyDifferencesAreStored) {
    backup();
    for (const auto& entry : fs::directory_iterator(*mount_ / ".nodesnap")) {
        fs::remove(entry.path() / "links.index");
    }
    const BackupResult second = backup();
    EXPECT_EQ(second.manifest.totals.read_bytes, kTable + 5000 + 50 + 10'000);
    EXPECT_LT(second.manifest.totals.stored_bytes, 64U << 10);
    EXPECT_TRUE(verifies());
}

}  // namespace
}  // namespace nodesnap
