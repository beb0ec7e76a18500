// Lookup, listing and walking of a backup's tree.
#include "snapshot/tree_path.h"

#include <gtest/gtest.h>

#include "platform/error.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap::test {
namespace {

class TreePath : public testing::Test {
protected:
    void add_directory(std::uint64_t parent, const std::string& name, std::uint64_t ino) {
        made_.directory(ino);
        made_.name(parent, name, ino, FileType::kDirectory);
    }
    void add_file(std::uint64_t parent, const std::string& name, std::uint64_t ino) {
        Inode file;
        file.mode = static_cast<std::uint16_t>(ino & 0777);
        made_.inode(ino, file);
        made_.name(parent, name, ino);
    }
    std::vector<std::string> walk(const Manifest& backup, std::uint64_t start = MadeBackup::kRoot) {
        TreeWalker walker(repository_, backup, start);
        TreeStep step;
        std::vector<std::string> steps;
        while (walker.next(step)) {
            const char* kind = step.kind == TreeStep::Kind::kEnter ? ">" : step.kind == TreeStep::Kind::kLeave ? "<" : "";
            steps.push_back(kind + walker.path() + ":" + std::to_string(step.depth));
        }
        return steps;
    }

    MadeRepository repositories_;
    Repository repository_ = repositories_.open();
    MadeBackup made_;
};

TEST_F(TreePath, FindsByComponents) {
    add_directory(MadeBackup::kRoot, "a", 2);
    add_directory(2, "b", 3);
    add_file(3, "c", 4);
    const auto backup = made_.publish(repository_);
    const auto ino = [&](const std::string& path) {
        const auto found = find_path(repository_, backup, path);
        return found ? found->first : 0;
    };
    EXPECT_EQ(ino(""), MadeBackup::kRoot);
    EXPECT_EQ(ino("/"), MadeBackup::kRoot);
    EXPECT_EQ(ino("a/b/c"), 4U);
    EXPECT_EQ(ino("//a/./b//c/"), 4U);
    EXPECT_EQ(ino("a/b/d"), 0U);
    EXPECT_EQ(ino("a/b/c/d"), 0U);
    EXPECT_EQ(ino("a/.."), 0U);
    EXPECT_EQ(ino(std::string(300, 'x')), 0U);
    EXPECT_EQ(normalized_path("/a//b/./c/"), "a/b/c");
    EXPECT_THROW(normalized_path("a/../b"), Error);
}

TEST_F(TreePath, WalksFilesBeforeSubdirectoriesAndTellsPaths) {
    add_directory(MadeBackup::kRoot, "m", 2);
    add_file(MadeBackup::kRoot, "z", 3);
    add_file(MadeBackup::kRoot, "a", 4);
    add_directory(2, "n", 5);
    add_file(5, "f", 6);
    add_directory(MadeBackup::kRoot, "o", 7);
    const auto backup = made_.publish(repository_);
    EXPECT_EQ(walk(backup),
              (std::vector<std::string>{">:0", "a:1", "z:1", ">m:1", ">m/n:2", "m/n/f:3", "<m/n:2", "<m:1", ">o:1", "<o:1", "<:0"}));
    EXPECT_EQ(walk(backup, 2), (std::vector<std::string>{">:0", ">n:1", "n/f:2", "<n:1", "<:0"}));
    TreeWalker walker(repository_, backup, MadeBackup::kRoot);
    TreeStep step;
    std::size_t steps = 0;
    for (; walker.next(step); ++steps) {
        if (step.kind == TreeStep::Kind::kEnter && step.entry.name == "m") {
            walker.skip();
        }
    }
    EXPECT_EQ(steps, 8U);
}

TEST_F(TreePath, ListsLargeDirectoriesInOrderAlsoAfterReadAheadWasDropped) {
    constexpr std::uint64_t kEntries = 3000;
    for (std::uint64_t i = 0; i < kEntries; ++i) {
        add_file(MadeBackup::kRoot, "f" + std::to_string(10'000 + i), 100 + i);
    }
    const auto backup = made_.publish(repository_);
    for (const std::uint64_t drop_every : {0, 1, 7, 100}) {
        DirectoryLister lister(repository_, backup, MadeBackup::kRoot);
        NamedEntry entry;
        std::uint64_t seen = 0;
        for (; lister.next(entry); ++seen) {
            ASSERT_EQ(entry.name, "f" + std::to_string(10'000 + seen));
            ASSERT_EQ(entry.ino, 100 + seen);
            if (drop_every != 0 && seen % drop_every == 0) {
                lister.drop_read_ahead();
            }
        }
        EXPECT_EQ(seen, kEntries);
    }
}

TEST_F(TreePath, DeepTreesWithManySubdirectoriesAreWalkedOnce) {
    std::uint64_t next = 2;
    std::uint64_t parent = MadeBackup::kRoot;
    for (int level = 0; level < 100; ++level) {
        for (int i = 0; i < 20; ++i) {
            add_directory(parent, "s" + std::to_string(i), next++);
        }
        parent = next - 10;
    }
    EXPECT_EQ(walk(made_.publish(repository_)).size(), 2 * (1 + 100 * 20));
}

TEST_F(TreePath, LoadsInodesInAnyOrderWithTheirAttributes) {
    constexpr std::uint64_t kFiles = 500;
    for (std::uint64_t i = 0; i < kFiles; ++i) {
        Inode file;
        file.size = 0;
        file.uid = static_cast<std::uint32_t>(i);
        file.xattr_count = static_cast<std::uint32_t>(i % 50);
        made_.inode(100 + 3 * i, file);
        for (std::uint64_t x = 0; x < i % 50; ++x) {
            Xattr value;
            value.size = 1;
            value.value = Bytes(1, static_cast<std::byte>(x));
            made_.put(key::xattr(100 + 3 * i, "user." + std::to_string(100 + x)), encode(value));
        }
    }
    const auto backup = made_.publish(repository_);
    InodeLoader loader(repository_, backup);
    for (const std::uint64_t stride : {1, 3, 71, 499}) {  // ascending, near and far, and wrapping around
        for (std::uint64_t n = 0, i = 0; n < kFiles; ++n, i = (i + stride) % kFiles) {
            Inode inode;
            std::vector<NamedXattr> xattrs;
            const bool complete = loader.load(100 + 3 * i, FileType::kRegular, inode, xattrs);
            ASSERT_EQ(inode.uid, i);
            if (!complete) {
                xattrs.clear();
                for_each_xattr(repository_, backup, 100 + 3 * i, [&](const NamedXattr& xattr) { xattrs.push_back(xattr); });
            }
            ASSERT_EQ(xattrs.size(), i % 50);
            for (std::uint64_t x = 0; x < xattrs.size(); ++x) {
                ASSERT_EQ(xattrs[x].name, "user." + std::to_string(100 + x));
            }
        }
    }
    Inode inode;
    std::vector<NamedXattr> xattrs;
    EXPECT_THROW(loader.load(101, FileType::kRegular, inode, xattrs), Error);
    EXPECT_THROW(loader.load(103, FileType::kSymlink, inode, xattrs), Error);
}

}  // namespace
}  // namespace nodesnap::test
