// Incremental backups from the inside: what the audit finds, and what happens when the parent can't be built on. What they hold is compared
// end to end, in tests/end_to_end/test_incremental.py.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "platform/btrfs.h"
#include "platform/file.h"
#include "snapshot/backup.h"
#include "snapshot/drain/audit.h"
#include "snapshot/run_reader.h"
#include "snapshot/tree_path.h"
#include "snapshot/verify.h"
#include "tests/snapshot/incremental_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

class IncrementalTest : public test::IncrementalFixture {
protected:
    // Both copies of the only node.
    void damage_tree() {
        std::vector<std::string> nodes;
        target_->list("nodes/", [&](const ObjectEntry& entry) { nodes.push_back(entry.name); });
        ASSERT_EQ(nodes.size(), 1U);
        for (const std::uint64_t offset : {4096U + 60U, 8192U + 60U}) {
            Bytes object = target_->peek(nodes[0]);
            object.at(offset) ^= std::byte{1};
            target_->poke(nodes[0], object);
        }
    }
};

TEST_F(IncrementalTest, WhatIsMissingIsStoredAnewAndToldOnce) {
    const Manifest first = backup().manifest;
    ASSERT_EQ(first.pack_bytes.size(), first.packs.size());
    std::vector<PackId> missing;
    for (std::size_t i = 0; i < first.packs.size(); ++i) {
        const std::string name = layout::pack({layout::PackKind::kData, first.packs[i], 0});
        if (target_->contains(name)) {
            EXPECT_EQ(first.pack_bytes[i], target_->peek(name).size());
            target_->erase(name);
            missing.push_back(first.packs[i]);
        }
    }
    std::sort(missing.begin(), missing.end());
    EXPECT_EQ(backup().manifest.avoided_packs, missing);
    EXPECT_EQ(report_.count(), 1U);
    const BackupResult later = backup();
    EXPECT_EQ(later.parent_missing, "");
    EXPECT_EQ(later.manifest.avoided_packs, missing) << "so that the next one needn't look for them in its tree";
    EXPECT_EQ(report_.count(), 1U);
}

TEST_F(IncrementalTest, WhatIsRemovedFromUnderItIsNotPublished) {
    backup();
    std::vector<std::string> packs;
    const auto list = [&] {
        std::vector<std::string> found;
        target_->list(layout::kDataPacks, [&](const ObjectEntry& entry) { found.push_back(entry.name); });
        return found;
    };
    const std::vector<std::string> before = list();
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "drain.metadata-durable") {
            for (const std::string& name : list()) {
                if (std::find(before.begin(), before.end(), name) == before.end()) {
                    target_->erase(name);
                }
            }
        }
    });
    write("new", 100'000, 'n');
    EXPECT_THROW(backup(), Error);
    std::size_t backups = 0;
    open().for_each_backup([&](const BackupEntry&) { ++backups; });
    EXPECT_EQ(backups, 1U);
}

TEST_F(IncrementalTest, AfterManyBackupsTheirPacksAreInventoried) {
    constexpr int kManifests = 32;  // that each backup reads
    for (int i = 0; i <= kManifests; ++i) {
        backup();
    }
    const std::size_t empty = target_->peek(std::string(layout::kInventory)).size();
    backup();
    EXPECT_GT(target_->peek(std::string(layout::kInventory)).size(), empty);
}

TEST_F(IncrementalTest, AuditsASampleOfWhatNothingCalledChanged) {
    EXPECT_EQ(backup().audited_bytes, 0U) << "a backup that reads everything needs no audit";
    const BackupResult second = backup();
    EXPECT_GE(second.audited_bytes, 1U << 20);
    EXPECT_EQ(second.manifest.totals.read_bytes, 0U);
    EXPECT_EQ(report_.count(), 0U);
}

// As if the file system had told too little: what the second backup takes over isn't what its snapshot holds.
TEST_F(IncrementalTest, AChangeListThatLiesIsToldAndEverythingIsReadInstead) {
    backup();
    bool lied = false;
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step != "drain.metadata-durable" || lied) {
            return;
        }
        lied = true;
        for (const auto& entry : fs::directory_iterator(*mount_ / ".nodesnap")) {
            if (fs::file_size(entry.path() / "node/small") != 5001) {
                continue;  // the parent's
            }
            const auto fd = open_path(entry.path(), O_RDONLY | O_DIRECTORY);
            btrfs::set_read_only(fd.get(), false);
            std::ofstream(entry.path() / "node/large", std::ios::binary) << std::string(4 << 20, 'x');
            ::sync();
            btrfs::set_read_only(fd.get(), true);
        }
    });
    write("small", 5001, 'c');
    const BackupResult second = backup();
    hooks.on_each_step({});
    EXPECT_TRUE(lied);
    EXPECT_EQ(second.parent_missing, "the file system's change list was wrong");
    ASSERT_EQ(report_.count(), 1U);
    EXPECT_NE(report_.warnings().at(0).find("please report this"), std::string::npos);
    EXPECT_EQ(content_of(second.manifest, "large"), std::string(4 << 20, 'x'));
    EXPECT_EQ(content_of(second.manifest, "small"), std::string(5001, 'c'));
}

TEST_F(IncrementalTest, AParentWhoseTreeIsDamagedIsNotBuiltOn) {
    backup();
    damage_tree();
    overwrite("large", 8192, "changed");
    const BackupResult second = backup();
    EXPECT_FALSE(second.manifest.parent);
    EXPECT_EQ(second.parent_missing, "the last backup is damaged");
    EXPECT_GE(report_.count(), 1U);
    EXPECT_EQ(content_of(second.manifest, "large"), content_of(node() + "/large"));
}

// Where its directories are looked up in a damaged tree, that isn't taken for damage of the source.
TEST_F(IncrementalTest, AParentWhoseTreeIsDamagedIsNotComparedWith) {
    fs::create_directory(node() + "/below");
    fs::rename(node() + "/large", node() + "/below/large");
    fs::remove(node() + "/small");
    BackupOptions options;
    options.drop_snapshot = true;
    options.skip_unreadable = true;
    backup(options);
    damage_tree();
    const BackupResult second = backup(options);
    EXPECT_FALSE(second.manifest.parent);
    EXPECT_FALSE(second.manifest.damaged);
    EXPECT_EQ(second.parent_missing, "the last backup is damaged");
    EXPECT_EQ(content_of(second.manifest, "below/large"), content_of(node() + "/below/large"));
    for (const std::string& warning : report_.warnings()) {
        EXPECT_EQ(warning.find("unreadable"), std::string::npos) << warning;
    }
}

TEST_F(IncrementalTest, AnAuditFindsWhereTreeAndSourceDiffer) {
    const BackupResult first = backup();
    const Repository repository = open();
    const auto source = open_path(node(), O_RDONLY | O_DIRECTORY);
    const auto found = [&] { return audit(source.get(), repository, first.manifest.tree, first.manifest.totals.data_bytes, {}).lie; };
    EXPECT_EQ(found(), "");
    write("large", 4 << 20, 'y');
    ::sync();
    EXPECT_NE(found(), "");
}

TEST_F(IncrementalTest, AnAuditOfEverythingFindsEachRange) {
    write("sparse", 1, 's');
    fs::resize_file(node() + "/sparse", 64 << 20);
    const BackupResult first = backup();
    const Repository repository = open();
    const auto source = open_path(node(), O_RDONLY | O_DIRECTORY);
    Progress progress;
    const AuditResult good = audit_everything(source.get(), repository, first.manifest.tree, progress, report_);
    EXPECT_EQ(good.lie, "");
    EXPECT_GE(good.bytes, first.manifest.totals.data_bytes - first.manifest.totals.files * kInlineContentLimit);
    EXPECT_EQ(report_.count(), 0U);
    overwrite("large", (3 << 20) + 4096, "a page");
    overwrite("sparse", 40 << 20, "where a hole was");
    ::sync();
    const AuditResult bad = audit_everything(source.get(), repository, first.manifest.tree, progress, report_);
    EXPECT_NE(bad.lie.find("1 further range"), std::string::npos) << bad.lie;
    EXPECT_EQ(report_.count(), 2U);
}

TEST_F(IncrementalTest, ABackupAuditsEverythingWhenAsked) {
    backup();
    write("small", 5001, 'c');
    BackupOptions all;
    all.audit = true;
    const BackupResult second = backup(all);
    EXPECT_EQ(second.parent_missing, "");
    EXPECT_GE(second.audited_bytes, 4U << 20) << "the whole large file, and more than a sample is";
    EXPECT_EQ(report_.count(), 0U);
}

// The numbers of what is deleted are given anew, here in a clone that takes the node's place; after a mount it is the same.
TEST_F(IncrementalTest, WhatHasTheNumberOfAFormerDirectoryHasNoneOfItsEntries) {
    fs::remove_all(node());
    test::run({"btrfs", "subvolume", "create", node()});
    fs::create_directories(node() + "/first/below");
    write("first/file", 5000, 'd');
    write("first/below/file", 5000, 'e');
    write("small", 5000, 'b');
    const auto number = [this](const std::string& name) { return stat_path(node() + "/" + name)->stx_ino; };
    const auto first = number("first");
    backup();
    fs::remove_all(node() + "/first");
    fs::remove(node() + "/small");
    test::run({"btrfs", "subvolume", "snapshot", node(), *mount_ / "clone"});
    test::run({"btrfs", "subvolume", "delete", node()});
    fs::rename(*mount_ / "clone", node());
    write("second", 6000, 'f');
    ASSERT_EQ(number("second"), first);
    const BackupResult second = backup();
    EXPECT_EQ(second.parent_missing, "");
    EXPECT_EQ(second.manifest.totals.directories, 1U);
    EXPECT_EQ(content_of(second.manifest, "second"), std::string(6000, 'f'));
    Repository repository = open();
    VerifyOptions options;
    options.scratch_directory = scratch_.path();
    Progress progress;
    EXPECT_EQ(run_verify(repository, options, progress).damage_count, 0U);
}

// What was written before the last backup's snapshot bears no later transaction than that.
TEST_F(IncrementalTest, ANodeThatIsPutBackToAnEarlierSnapshotIsComparedUnlessItsLineCanBeFollowed) {
    fs::remove_all(node());
    test::run({"btrfs", "subvolume", "create", node()});
    const auto put_back_to = [this](const std::string& snapshot) {
        test::run({"btrfs", "subvolume", "snapshot", snapshot, *mount_ / "clone"});
        test::run({"btrfs", "subvolume", "delete", node()});
        fs::rename(*mount_ / "clone", node());
    };
    write("large", 8 << 20, 'a');
    test::run({"btrfs", "subvolume", "snapshot", "-r", node(), *mount_ / "earlier"});
    write("large", 8 << 20, 'b');
    backup();
    // Of the snapshot of a snapshot nothing tells where it comes from, once that is gone.
    test::run({"btrfs", "subvolume", "snapshot", "-r", *mount_ / "earlier", *mount_ / "again"});
    test::run({"btrfs", "subvolume", "delete", *mount_ / "earlier"});
    put_back_to(*mount_ / "again");
    const BackupResult compared = backup();
    EXPECT_NE(compared.parent_missing.find("replaced"), std::string::npos) << compared.parent_missing;
    EXPECT_EQ(compared.manifest.totals.read_bytes, 8U << 20);
    EXPECT_EQ(content_of(compared.manifest, "large"), std::string(8 << 20, 'a'));
    // A clone of the parent, or of what it was taken of.
    put_back_to((*fs::directory_iterator(*mount_ / ".nodesnap")).path());
    EXPECT_EQ(backup().parent_missing, "");
    put_back_to(node());
    write("small", 5001, 'c');
    const BackupResult cloned = backup();
    EXPECT_EQ(cloned.parent_missing, "");
    EXPECT_EQ(content_of(cloned.manifest, "large"), std::string(8 << 20, 'a'));
    EXPECT_EQ(report_.count(), 0U);
}

// The last backup holds what was done after the snapshot, and what the node is now was changed after it too.
TEST_F(IncrementalTest, ANodeThatIsPutBackToWhatIsOlderThanItsParentIsComparedByWhatBothHaveChanged) {
    fs::remove_all(node());
    test::run({"btrfs", "subvolume", "create", node()});
    write("large", 8 << 20, 'a');
    write("untouched", 4 << 20, 'u');
    write("removed there", 5000, 'r');
    write("renamed there", 5000, 'n');
    fs::create_directories(node() + "/directory removed there/below");
    write("directory removed there/below/file", 5000, 'd');
    test::run({"btrfs", "subvolume", "snapshot", "-r", node(), *mount_ / "earlier"});
    overwrite("large", 1 << 20, "there");
    fs::remove(node() + "/removed there");
    fs::rename(node() + "/renamed there", node() + "/new name");
    fs::remove_all(node() + "/directory removed there");
    write("made there", 5000, 'm');
    fs::create_directories(node() + "/made there too");
    write("made there too/file", 5000, 'm');
    backup();
    test::run({"btrfs", "subvolume", "snapshot", *mount_ / "earlier", *mount_ / "clone"});
    fs::rename(node(), *mount_ / "replaced");
    fs::rename(*mount_ / "clone", node());
    overwrite("large", 3 << 20, "here");
    write("made here", 6000, 'h');
    BackupOptions all;
    all.audit = true;
    const BackupResult second = backup(all);
    EXPECT_EQ(second.parent_missing, "");
    EXPECT_EQ(report_.count(), 0U);
    EXPECT_LT(second.manifest.totals.read_bytes, 1U << 20);
    std::string large(8 << 20, 'a');
    large.replace(3 << 20, 4, "here");
    EXPECT_EQ(content_of(second.manifest, "large"), large);
    EXPECT_EQ(content_of(second.manifest, "removed there"), std::string(5000, 'r'));
    EXPECT_EQ(content_of(second.manifest, "renamed there"), std::string(5000, 'n'));
    EXPECT_EQ(content_of(second.manifest, "directory removed there/below/file"), std::string(5000, 'd'));
    EXPECT_EQ(content_of(second.manifest, "made here"), std::string(6000, 'h'));
    EXPECT_EQ(second.manifest.totals.files, 6U);
    EXPECT_EQ(second.manifest.totals.directories, 3U);
}

}  // namespace
}  // namespace nodesnap
