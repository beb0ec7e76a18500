// Copies by reference on btrfs: what the parent backup holds under another name, or in another place, is neither read nor stored again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "platform/btrfs.h"
#include "platform/file.h"
#include "tests/platform/btrfs_tree_fixture.h"
#include "tests/snapshot/incremental_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kMiB = 1 << 20;

class SharedExtentsTest : public test::IncrementalFixture {
protected:
    void SetUp() override {
        IncrementalFixture::SetUp();
        if (mount_) {
            put("a", 0, random_text(4 * kMiB));
            put("odd", 0, random_text(100'001));
            put("little", 0, random_text(12'000));
        }
    }

    std::string random_text(std::uint64_t length) {
        std::string text(length, '\0');
        for (char& byte : text) {
            byte = static_cast<char>(random_());
        }
        return text;
    }
    std::string path(const std::string& name) const { return node() + "/" + name; }
    void put(const std::string& name, std::uint64_t offset, const std::string& text) const {
        pwrite_all(btrfs::open_file(path(name)).get(), std::as_bytes(std::span(text)), offset, name);
    }
    void clone(const std::string& from, std::uint64_t from_offset, std::uint64_t length, const std::string& to,
               std::uint64_t offset) const {
        btrfs::clone_range(path(from), from_offset, length, path(to), offset);  // a length of 0: to the end
    }
    void copy(const std::string& from, const std::string& to) const { clone(from, 0, 0, to, 0); }

    // A backup whose files are what the node has.
    BackupResult backup_whole(BackupOptions options = {}) {
        const std::vector<std::string> excludes = options.excludes;
        BackupResult result = backup(std::move(options));
        for (const auto& entry : fs::directory_iterator(node())) {
            const std::string name = entry.path().filename();
            if (entry.is_regular_file() && std::find(excludes.begin(), excludes.end(), name) == excludes.end()) {
                EXPECT_TRUE(content_of(result.manifest, name) == content_of(entry.path().string())) << name;
            }
        }
        EXPECT_EQ(report_.count(), 0U);
        return result;
    }
    std::uint64_t read_by_backup() { return backup_whole().manifest.totals.read_bytes; }

    const std::uint64_t seed_ = std::random_device()();
    std::mt19937_64 random_{seed_};
};

TEST_F(SharedExtentsTest, ACopyIsReferredTo) {
    backup();
    copy("a", "copy");
    copy("little", "little copy");
    copy("odd", "odd copy");
    clone("a", kMiB, kMiB, "a", 0);
    clone("a", 2 * kMiB, 64 * kPage, "odd", 8 * kPage);
    fs::permissions(path("little"), fs::perms::owner_read);
    EXPECT_EQ(read_by_backup(), 0U);
}

TEST_F(SharedExtentsTest, WhatWasChangedInACopyIsRead) {
    backup();
    copy("a", "copy");
    put("copy", kMiB + 5, "x");
    put("copy", 3 * kMiB, random_text(10 * kPage));
    EXPECT_EQ(read_by_backup(), 11 * kPage);
}

TEST_F(SharedExtentsTest, AnEndInsideAPage) {
    backup();
    for (const auto& [name, size] :
         {std::pair{"longer", 100'100}, {"shorter", 99'990}, {"much shorter", 50'000}, {"much longer", 3'000'000}}) {
        copy("odd", name);
        fs::resize_file(path(name), static_cast<std::uintmax_t>(size));
    }
    clone("a", 0, kMiB, "behind", 0);
    clone("odd", 0, 0, "behind", kMiB);
    put("behind", kMiB + 200'000, "x");
    EXPECT_LE(read_by_backup(), 8 * kPage);
}

TEST_F(SharedExtentsTest, PartsOfCompressedExtents) {
    mount_->remount("compress-force=zstd");
    std::string text;
    for (int line = 0; text.size() < 2 * kMiB; ++line) {
        text += "line " + std::to_string(line) + "\n";
    }
    put("compressed", 0, text);
    btrfs::sync_path(path("compressed"));
    backup();
    clone("compressed", kMiB + 7 * kPage, 50 * kPage, "part", 3 * kPage);
    clone("compressed", kMiB + 32 * kPage, 5 * kPage, "compressed", 2 * kPage);
    copy("compressed", "copy");
    clone("compressed", kPage, kPage, "copy", 9 * kPage);  // within one extent
    EXPECT_EQ(read_by_backup(), 0U);
}

TEST_F(SharedExtentsTest, TheOriginIsAsTheParentHasIt) {
    backup();
    copy("a", "copy");
    put("a", 0, random_text(2 * kMiB));
    copy("a", "second copy");  // half of it is in no backup
    EXPECT_EQ(read_by_backup(), 4 * kMiB);
    fs::remove(path("a"));
    copy("second copy", "third copy");
    EXPECT_EQ(read_by_backup(), 0U);
}

TEST_F(SharedExtentsTest, WhatTheParentHasNotIsRead) {
    BackupOptions options;
    options.excludes = {"excluded"};
    put("excluded", 0, random_text(kMiB));
    backup(options);
    copy("excluded", "copy");
    fs::remove(path("excluded"));
    EXPECT_EQ(backup_whole(options).manifest.totals.read_bytes, kMiB);

    const std::string outside = *mount_ / "outside";
    btrfs::write_at(outside, 0, kMiB);
    btrfs::sync_path(outside);
    backup(options);
    btrfs::clone_range(outside, 0, 0, path("from outside"), 0);
    EXPECT_EQ(backup_whole(options).manifest.totals.read_bytes, kMiB);
}

TEST_F(SharedExtentsTest, WhatIsOfNoParentButOfAnOldSnapshotIsRead) {
    const FileDescriptor top = open_path(mount_->path(), O_RDONLY | O_DIRECTORY);
    put("a", 0, random_text(kMiB));
    backup();
    btrfs::create_snapshot(top.get(), top.get(), "operator", false);
    put("a", 0, random_text(kMiB));
    backup();
    btrfs::clone_range(*mount_ / "operator/node/a", 0, 0, path("from the snapshot"), 0);
    EXPECT_EQ(read_by_backup(), kMiB) << "the rest is what the parent has, too";
}

TEST_F(SharedExtentsTest, WhatCannotBeFoundOutIsRead) {
    backup();
    copy("a", "copy");
    copy("little", "little copy");
    test::FaultHooks hooks;
    hooks.fail_nth(1, EIO, true, "logical_ino");
    EXPECT_EQ(read_by_backup(), 4 * kMiB + 12'000);
    EXPECT_GT(hooks.count("logical_ino"), 0U);
}

// Balance puts extents where others were, and neither their pieces nor what refers to them tells.
TEST_F(SharedExtentsTest, WhatIsMovedDuringTheBackupIsRead) {
    backup();
    copy("a", "copy");
    bool moved = false;
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "drain.begun") {
            moved = std::system(("btrfs balance start -d " + mount_->path() + " > /dev/null").c_str()) == 0;
        }
    });
    EXPECT_GE(read_by_backup(), 4 * kMiB);
    EXPECT_TRUE(moved);
    copy("a", "second copy");
    EXPECT_GE(read_by_backup(), 4 * kMiB) << "moved again";
    hooks.on_each_step([](const std::string&) {});
    copy("a", "third copy");
    EXPECT_EQ(read_by_backup(), 0U) << "what was moved before a backup has its place";
}

// What was there at the last backup is never read again, wherever it is cloned to; and what is backed up is right.
TEST_F(SharedExtentsTest, AtRandom) {
    SCOPED_TRACE("seed " + std::to_string(seed_));
    const auto below = [&](std::uint64_t limit) { return random_() % limit; };
    std::vector<std::string> names = {"a", "odd", "large"};
    for (int round = 0; round < 12; ++round) {
        for (int write = 0; write < 30; ++write) {
            put(names[below(names.size())], below(1000) * kPage, random_text(kPage * (1 + below(9))));
        }
        backup_whole();
        constexpr std::uint64_t kClones = 20;
        for (std::uint64_t number = 0; number < kClones; ++number) {
            const std::string from = names[below(names.size())];
            const std::uint64_t pages = fs::file_size(path(from)) / kPage;
            const std::uint64_t begin = below(pages);
            const bool is_new = below(8) == 0;
            const std::string to = is_new ? "new" + std::to_string(round) + "-" + std::to_string(number) : names[below(names.size())];
            const std::uint64_t length = 1 + below(std::min<std::uint64_t>(pages - begin, 300));
            const std::uint64_t at = is_new ? 0 : below(1000);
            if (from == to && at < begin + length && begin < at + length) {
                continue;  // what overlaps can't be cloned
            }
            clone(from, begin * kPage, length * kPage, to, at * kPage);
            if (is_new) {
                names.push_back(to);
            }
        }
        EXPECT_LE(read_by_backup(), kPage * kClones) << "but for the pages in which files ended";
    }
}

}  // namespace
}  // namespace nodesnap
