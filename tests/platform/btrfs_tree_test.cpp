#include "platform/btrfs_tree.h"

#include <sys/stat.h>

#include <filesystem>
#include <set>

#include "platform/error.h"
#include "platform/inode_flags.h"
#include "tests/platform/btrfs_tree_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::btrfs {
namespace {

namespace fs = std::filesystem;

TEST_F(BtrfsTreeTest, AllInodesAreToldWithWhatTheyAre) {
    fs::create_directory(*this / "directory");
    write_at(*this / "directory/file", 0, 12345);
    fs::create_hard_link(*this / "directory/file", *this / "link");
    must(::mkfifo((*this / "fifo").c_str(), 0600), "mkfifo");
    const Snapshot now = snapshot();
    const auto all = changed_since(now, 0);
    std::set<std::uint64_t> expected;
    for (const std::string name : {"", "directory", "directory/file", "fifo"}) {
        const FileStatus status = stat_path(now / name, AT_SYMLINK_NOFOLLOW).value();
        expected.insert(status.stx_ino);
        const InodeItem inode = all.at(status.stx_ino);
        EXPECT_EQ(inode.mode, status.stx_mode);
        EXPECT_EQ(inode.links, status.stx_nlink);
        EXPECT_EQ(inode.size, status.stx_size);
        EXPECT_LE(inode.generation, inode.transid);
        EXPECT_EQ(find_inode(now.fd.get(), status.stx_ino), inode);
    }
    EXPECT_EQ(all.size(), expected.size());
    EXPECT_EQ(all.at(ino_of(now / "link")).generation, inode_generation(open_file(now / "link", O_RDONLY).get()));
    EXPECT_EQ(find_inode(now.fd.get(), 1'000'000), std::nullopt);
    EXPECT_EQ(find_inode(now.fd.get(), kFirstIno + all.size()), std::nullopt);
}

// Many leaves and many fills of the buffer, a huge directory and a file of many extents in between.
TEST_F(BtrfsTreeTest, FewAmongManyAreFoundAtTheCostOfFew) {
    constexpr int kFiles = 5000;
    for (int i = 0; i < kFiles; ++i) {
        open_file(*this / ("file" + std::to_string(i)));
    }
    for (std::uint64_t i = 0; i < 3000; ++i) {
        write_at(*this / "extents", i * 2 * kBlock, 1);
    }
    const Snapshot parent = snapshot();
    EXPECT_EQ(changed_since(parent, 0).size(), kFiles + 2u);
    std::set<std::uint64_t> touched;
    for (int i = 0; i < kFiles; i += 1000) {
        const std::string path = *this / ("file" + std::to_string(i));
        fs::permissions(path, fs::perms::owner_read);
        touched.insert(ino_of(path));
    }
    write_at(*this / "extents", 3000 * kBlock, 1);
    touched.insert(ino_of(*this / "extents"));
    const Snapshot now = snapshot();
    const test::FaultHooks hooks;
    std::set<std::uint64_t> found;
    for (const auto& [ino, inode] : changed_since(now, parent.info.otransid)) {
        found.insert(ino);
    }
    EXPECT_EQ(found, touched);
    EXPECT_LE(hooks.count("tree_search"), 5u);
    const std::uint64_t before = hooks.count("tree_search");
    EXPECT_TRUE(changed_since(now, now.info.otransid).empty());
    EXPECT_EQ(hooks.count("tree_search"), before + 1);
}

// The inode of a file is told; its extents, here some hundred KiB of items, aren't even read.
TEST_F(BtrfsTreeTest, LongInodesCostNoMoreThanShortOnes) {
    for (std::uint64_t i = 0; i < 3000; ++i) {
        write_at(*this / "extents", i * 2 * kBlock, 1);
    }
    write_at(*this / "file", 0, 1);
    const Snapshot now = snapshot();
    const test::FaultHooks hooks;
    EXPECT_EQ(changed_since(now, 0).size(), 3u);
    EXPECT_LE(hooks.count("tree_search"), 3u);
}

TEST_F(BtrfsTreeTest, InodeThatWasOpenWhenItWasRemovedIsNotInTheSnapshot) {
    const FileDescriptor file = open_file(*this / "file");
    const std::uint64_t ino = ino_of(*this / "file");
    const FileDescriptor unnamed = open_file(*this / "", O_TMPFILE | O_RDWR);
    fs::remove(*this / "file");
    const Snapshot now = snapshot();
    const FileDescriptor subvolume = open_file(*this / "", O_RDONLY);
    const auto inode = find_inode(subvolume.get(), ino);
    ASSERT_TRUE(inode);
    EXPECT_EQ(inode->links, 0u);
    EXPECT_TRUE(links_of(subvolume.get(), ino).empty());
    const auto all = changed_since(now, 0);
    ASSERT_EQ(all.size(), 1u);
    EXPECT_TRUE(all.contains(kFirstIno));
}

TEST_F(BtrfsTreeTest, AllNamesOfAnInodeAreTold) {
    std::vector<InodeLink> expected;
    std::vector<std::string> directories{""};
    for (int i = 0; i < 20; ++i) {
        directories.push_back("directory" + std::to_string(i) + "/");
        fs::create_directory(*this / directories.back());
    }
    write_at(*this / "first", 0, 10);
    const auto link = [&](const std::string& directory, const std::string& name) {
        if (name != "first") {
            fs::create_hard_link(*this / "first", *this / (directory + name));
        }
        expected.push_back({ino_of(*this / directory), name});
    };
    link("", "first");
    for (int i = 0; i < 1500; ++i) {
        link("", "short" + std::to_string(i));
    }
    for (const std::string& directory : directories) {
        for (int i = 100; i < 150; ++i) {
            link(directory, std::string(252, 'n') + std::to_string(i));
        }
        link(directory, "\xff\xfe not UTF-8 \x01\n");
    }
    const Snapshot now = snapshot();
    std::sort(expected.begin(), expected.end());
    const std::uint64_t ino = ino_of(*this / "first");
    EXPECT_EQ(links_of(now.fd.get(), ino), expected);
    EXPECT_EQ(find_inode(now.fd.get(), ino)->links, expected.size());
    std::size_t visited = 0;
    EXPECT_FALSE(visit_links(now.fd.get(), ino, [&](const InodeLink&) { return ++visited < 7; }));
    EXPECT_EQ(visited, 7u);
    EXPECT_TRUE(visit_links(now.fd.get(), ino, [](const InodeLink&) { return true; }));

    EXPECT_TRUE(links_of(now.fd.get(), kFirstIno).empty());
    EXPECT_TRUE(links_of(now.fd.get(), 1'000'000).empty());
    EXPECT_EQ(links_of(now.fd.get(), ino_of(*this / "directory3")), (std::vector<InodeLink>{{kFirstIno, "directory3"}}));
}

TEST_F(BtrfsTreeTest, InodesAreOpenedByNumber) {
    const std::string contents = "contents";
    fs::create_directories(*this / "a/b");
    write_file_durably(*this / "a/b/file", contents);
    fs::create_symlink("nowhere", *this / "symlink");
    write_file_durably(*this / "gone", "");
    const std::uint64_t gone = ino_of(*this / "gone");
    fs::remove(*this / "gone");
    const Snapshot now = snapshot();
    fs::remove_all(*this / "a");
    // The only way to the snapshot is a mount that nobody sees.
    const FileDescriptor top = open_top_level(mount_->path());
    const FileDescriptor any = open_at(top.get(), ".", O_RDONLY | O_DIRECTORY);
    const std::string elsewhere = mount_->mount_again("subvol=s");
    const FileDescriptor other_mount = open_file(elsewhere, O_RDONLY);
    const std::uint64_t id = now.info.id;
    const InodeItem file = find_inode(now.fd.get(), ino_of(now / "a/b/file")).value();
    for (const int mount : {any.get(), other_mount.get()}) {
        const FileDescriptor opened(try_open_inode(mount, id, file.ino, file.generation, O_RDONLY | O_NOATIME));
        ASSERT_TRUE(opened);
        EXPECT_EQ(stat_fd(opened.get()).stx_ino, file.ino);
        std::string read(contents.size(), '\0');
        EXPECT_EQ(pread_some(opened.get(), std::as_writable_bytes(std::span(read)), 0, "file"), contents.size());
        EXPECT_EQ(read, contents);
        EXPECT_EQ(::fcntl(opened.get(), F_GETFD), FD_CLOEXEC);
    }
    EXPECT_TRUE(FileDescriptor(try_open_inode(any.get(), id, file.ino, file.generation, O_RDONLY | O_NOATIME | O_DIRECT)));
    EXPECT_TRUE(FileDescriptor(try_open_inode(any.get(), id, file.ino, file.generation, O_PATH)));
    EXPECT_EQ(try_open_inode(any.get(), id, file.ino, file.generation, O_RDWR), -EROFS);

    const InodeItem directory = find_inode(now.fd.get(), ino_of(now / "a/b")).value();
    const FileDescriptor opened(try_open_inode(any.get(), id, directory.ino, directory.generation, O_RDONLY | O_DIRECTORY));
    ASSERT_TRUE(opened);
    EXPECT_TRUE(stat_at(opened.get(), "file"));
    const InodeItem symlink = find_inode(now.fd.get(), ino_of(now / "symlink")).value();
    const FileDescriptor link(try_open_inode(any.get(), id, symlink.ino, symlink.generation, O_PATH | O_NOFOLLOW));
    ASSERT_TRUE(link);
    EXPECT_EQ(read_link(link.get(), ""), "nowhere");

    EXPECT_EQ(try_open_inode(any.get(), id, file.ino, file.generation + 1, O_RDONLY), -ESTALE);
    EXPECT_EQ(try_open_inode(any.get(), id, gone, file.generation, O_RDONLY), -ESTALE);
    EXPECT_EQ(try_open_inode(any.get(), id, 1'000'000, file.generation, O_RDONLY), -ESTALE);
    EXPECT_EQ(try_open_inode(any.get(), id + 1000, file.ino, file.generation, O_RDONLY), -ESTALE);
    EXPECT_EQ(try_open_inode(-1, id, file.ino, file.generation, O_RDONLY), -EBADF);
}

TEST_F(BtrfsTreeTest, FailedSearchesAreToldWithThePath) {
    write_at(*this / "file", 0, 10);
    const Snapshot now = snapshot();
    test::FaultHooks hooks;
    hooks.fail_nth(1, EIO, false, "tree_search");
    ChangedInodes changes(now.fd.get(), 0, "the snapshot");
    InodeItem inode;
    try {
        changes.next(inode);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.error_number(), EIO);
        EXPECT_NE(error.message().find("the snapshot"), std::string::npos);
    }
    hooks.fail_nth(1, EINTR, false, "tree_search");
    EXPECT_TRUE(find_inode(now.fd.get(), kFirstIno));
    hooks.fail_nth(1, EMFILE, false, "open_inode");
    EXPECT_EQ(try_open_inode(now.fd.get(), now.info.id, kFirstIno, 0, O_RDONLY), -EMFILE);
    EXPECT_THROW(find_inode(open_file("/proc", O_RDONLY).get(), kFirstIno), Error);
}

TEST_F(BtrfsTreeTest, BufferGrowsForAnItemThatDoesNotFit) {
    write_file_durably(*this / "inline", std::string(2000, 'a'));
    const Snapshot now = snapshot();
    const std::uint64_t ino = ino_of(now / "inline");
    const auto items = [&](std::size_t buffer_bytes) {
        TreeSearch search(now.fd.get(), {ino, 0, 0}, {ino, kLastItemType, UINT64_MAX}, 0, now.path, buffer_bytes);
        std::vector<std::pair<ItemKey, std::size_t>> found;
        for (Item item; search.next(item);) {
            found.emplace_back(item.key, item.data.size());
        }
        return found;
    };
    EXPECT_GE(items(kSearchBufferBytes).size(), 3u);  // item, name, extent
    EXPECT_EQ(items(64), items(kSearchBufferBytes));
}

TEST_F(BtrfsTreeTest, ShortItemsAreRefused) {
    const TreeSearch search(-1, {}, {}, 0, "the snapshot");
    const auto data = filled(sizeof(btrfs_inode_item) - 1, 0);
    const Item item{{256, BTRFS_INODE_ITEM_KEY, 0}, data};
    EXPECT_THROW(search.read<btrfs_inode_item>(item), Error);
    EXPECT_THROW(search.bytes(item, data.size() + 1, 0), Error);
    EXPECT_THROW(search.bytes(item, 1, SIZE_MAX), Error);
    EXPECT_EQ(search.bytes(item, 1, data.size() - 1).size(), data.size() - 1);
}

}  // namespace
}  // namespace nodesnap::btrfs
