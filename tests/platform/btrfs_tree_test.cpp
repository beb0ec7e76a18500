#include "platform/btrfs_tree.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "platform/error.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "tests/platform/btrfs_tree_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::btrfs {
namespace {

namespace fs = std::filesystem;

std::map<std::uint64_t, InodeItem> changed_since(const Snapshot& snapshot, std::uint64_t after_transid) {
    ChangedInodes changes(snapshot.fd.get(), after_transid, snapshot.path);
    std::map<std::uint64_t, InodeItem> found;
    InodeItem inode;
    std::uint64_t last = 0;
    while (changes.next(inode)) {
        EXPECT_GT(inode.ino, last) << "not ascending";
        last = inode.ino;
        found[inode.ino] = inode;
    }
    return found;
}

// One way of touching something. All happen in a directory of the case's own, whose file "file" (1 MiB) and "other" exist beforehand.
struct Touch {
    std::string name;
    std::function<void(const std::string& directory)> touch;
    std::set<std::string> touched = {"file"};  // paths in the directory afterwards; "" is the directory
    std::function<void(const std::string& directory)> prepare = {};
};

void map_and_write(const std::string& path) {
    const FileDescriptor file = open_file(path);
    void* const memory = ::mmap(nullptr, kBlock, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    must(memory == MAP_FAILED ? -1 : 0, "mmap");
    std::memset(memory, 'm', 10);
    must(::msync(memory, kBlock, MS_SYNC), "msync");
    ::munmap(memory, kBlock);
}

void deduplicate(const std::string& from, const std::string& to, std::uint64_t length) {
    const FileDescriptor source = open_file(from);
    const FileDescriptor destination = open_file(to);
    std::vector<std::uint64_t> buffer((sizeof(file_dedupe_range) + sizeof(file_dedupe_range_info)) / 8);
    auto* const range = reinterpret_cast<file_dedupe_range*>(buffer.data());
    range->src_length = length;
    range->dest_count = 1;
    range->info[0].dest_fd = destination.get();
    must(::ioctl(source.get(), FIDEDUPERANGE, range), "deduplicate");
    ASSERT_EQ(range->info[0].status, FILE_DEDUPE_RANGE_SAME);
    ASSERT_EQ(range->info[0].bytes_deduped, length);
}

void set_flag(const std::string& path, std::uint32_t flag) {
    const FileDescriptor file = open_file(path);
    ASSERT_TRUE(set_inode_flags(file.get(), inode_flags(file.get()).value() | flag));
}

void make_small(const std::string& directory) {
    write_file_durably(directory + "/small", std::string(100, 'a'));
}

std::vector<Touch> touches_of_contents() {
    return {
        {"written", [](const std::string& d) { write_at(d + "/file", 4096, 10); }},
        {"appended", [](const std::string& d) { write_at(d + "/file", kMiB, 10); }},
        {"truncated down", [](const std::string& d) { resize(d + "/file", 300'000); }},
        {"truncated up", [](const std::string& d) { resize(d + "/file", 2 * kMiB); }},
        {"emptied", [](const std::string& d) { resize(d + "/file", 0); }},
        {"punched", [](const std::string& d) { punch(d + "/file", 64 * kKiB, 64 * kKiB); }},
        {"preallocated beyond", [](const std::string& d) { allocate(d + "/file", FALLOC_FL_KEEP_SIZE, 2 * kMiB, kMiB); }},
        {"preallocated inside",
         [](const std::string& d) { allocate(d + "/sparse", 0, 64 * kKiB, 64 * kKiB); },
         {"sparse"},
         [](const std::string& d) {
             write_at(d + "/sparse", 0, 10);
             resize(d + "/sparse", kMiB);
         }},
        {"preallocation written to",
         [](const std::string& d) { write_at(d + "/allocated", 64 * kKiB, 64 * kKiB); },
         {"allocated"},
         [](const std::string& d) { allocate(d + "/allocated", 0, 0, kMiB); }},
        {"zeroed", [](const std::string& d) { allocate(d + "/file", FALLOC_FL_ZERO_RANGE, 64 * kKiB, 64 * kKiB); }},
        {"cloned within", [](const std::string& d) { clone_range(d + "/file", 0, 64 * kKiB, d + "/file", 512 * kKiB); }},
        {"cloned from another", [](const std::string& d) { clone_range(d + "/other", 0, 64 * kKiB, d + "/file", 512 * kKiB); }},
        {"deduplicated", [](const std::string& d) { deduplicate(d + "/other", d + "/file", 64 * kKiB); }},
        {"mapped", [](const std::string& d) { map_and_write(d + "/file"); }},
        {"without copy-on-write",
         [](const std::string& d) { write_at(d + "/nocow", 0, 10, 'x'); },
         {"nocow"},
         [](const std::string& d) {
             open_file(d + "/nocow");
             set_flag(d + "/nocow", FS_NOCOW_FL);
             write_at(d + "/nocow", 0, kMiB);
         }},
        {"compressed",
         [](const std::string& d) { write_at(d + "/compressed", 64 * kKiB, 10, 'x'); },
         {"compressed"},
         [](const std::string& d) {
             open_file(d + "/compressed");
             set_flag(d + "/compressed", FS_COMPR_FL);
             write_at(d + "/compressed", 0, kMiB);
         }},
        {"inline overwritten", [](const std::string& d) { write_at(d + "/small", 0, 100, 'b'); }, {"small"}, make_small},
        {"inline grown", [](const std::string& d) { write_at(d + "/small", 100, 100, 'b'); }, {"small"}, make_small},
        {"inline grown out", [](const std::string& d) { write_at(d + "/small", 100, 100'000, 'b'); }, {"small"}, make_small},
        {"inline shrunk", [](const std::string& d) { resize(d + "/small", 50); }, {"small"}, make_small},
    };
}

std::vector<Touch> touches_of_attributes_and_names() {
    return {
        {"xattr set", [](const std::string& d) { xattr::set(open_file(d + "/file").get(), "user.a", filled(10, 'a')); }},
        {"xattr removed",
         [](const std::string& d) { xattr::remove(open_file(d + "/file").get(), "user.a"); },
         {"file"},
         [](const std::string& d) { xattr::set(open_file(d + "/file").get(), "user.a", filled(10, 'a')); }},
        {"chattr", [](const std::string& d) { set_flag(d + "/file", FS_NOATIME_FL); }},
        {"utimes", [](const std::string& d) { fs::last_write_time(d + "/file", fs::file_time_type{}); }},
        {"chmod", [](const std::string& d) { fs::permissions(d + "/file", fs::perms::owner_read); }},
        {"chown", [](const std::string& d) { must(::chown((d + "/file").c_str(), 1, 1), "chown"); }},
        {"directory's chmod", [](const std::string& d) { fs::permissions(d, fs::perms::owner_all); }, {""}},
        {"linked", [](const std::string& d) { fs::create_hard_link(d + "/file", d + "/link"); }, {"", "file"}},
        {"linked elsewhere",
         [](const std::string& d) { fs::create_hard_link(d + "/file", d + "/sub/link"); },
         {"file", "sub"},
         [](const std::string& d) { fs::create_directory(d + "/sub"); }},
        {"unlinked", [](const std::string& d) { fs::remove(d + "/file"); }, {""}},
        {"one of two unlinked",
         [](const std::string& d) { fs::remove(d + "/link"); },
         {"", "file"},
         [](const std::string& d) { fs::create_hard_link(d + "/file", d + "/link"); }},
        {"renamed", [](const std::string& d) { fs::rename(d + "/file", d + "/file2"); }, {"", "file2"}},
        {"renamed across",
         [](const std::string& d) { fs::rename(d + "/file", d + "/sub/file"); },
         {"", "sub", "sub/file"},
         [](const std::string& d) { fs::create_directory(d + "/sub"); }},
        {"renamed over", [](const std::string& d) { fs::rename(d + "/file", d + "/other"); }, {"", "other"}},
        {"directory moved",
         [](const std::string& d) { fs::rename(d + "/a/b", d + "/b"); },
         {"", "a", "b"},
         [](const std::string& d) {
             fs::create_directories(d + "/a/b/c");
             write_at(d + "/a/b/c/deep", 0, 10);
         }},
        {"created", [](const std::string& d) { write_at(d + "/new", 0, 10); }, {"", "new"}},
        {"directory made", [](const std::string& d) { fs::create_directory(d + "/new"); }, {"", "new"}},
        {"directory removed",
         [](const std::string& d) { fs::remove(d + "/sub"); },
         {""},
         [](const std::string& d) { fs::create_directory(d + "/sub"); }},
        {"symlink replaced",
         [](const std::string& d) {
             fs::remove(d + "/symlink");
             fs::create_symlink("b", d + "/symlink");
         },
         {"", "symlink"},
         [](const std::string& d) { fs::create_symlink("a", d + "/symlink"); }},
        {"read only", [](const std::string& d) { read_small_file(d + "/file"); }, {}},
    };
}

class TouchTest : public BtrfsTreeTest {
protected:
    TouchTest() : BtrfsTreeTest("noatime") {}
    void expect_found(const std::vector<Touch>& touches) {
        std::size_t number = 0;
        const auto directory_of = [&](std::size_t i) { return *this / ("case" + std::to_string(i)); };
        for (const Touch& touch : touches) {
            const std::string directory = directory_of(number++);
            fs::create_directory(directory);
            write_at(directory + "/file", 0, kMiB);
            write_at(directory + "/other", 0, kMiB);
            if (touch.prepare) {
                touch.prepare(directory);
            }
        }
        const Snapshot parent = snapshot();
        std::map<std::uint64_t, std::string> expected;
        number = 0;
        for (const Touch& touch : touches) {
            const std::string directory = directory_of(number++);
            SCOPED_TRACE(touch.name);
            touch.touch(directory);
            for (const std::string& path : touch.touched) {
                expected[ino_of(path.empty() ? directory : directory + "/" + path)] = touch.name + ": " + path;
            }
        }
        const Snapshot now = snapshot();
        const auto changed = changed_since(now, parent.info.otransid);
        for (const auto& [ino, what] : expected) {
            EXPECT_TRUE(changed.contains(ino)) << "not found: " << what;
        }
        for (const auto& [ino, inode] : changed) {
            EXPECT_TRUE(expected.contains(ino)) << "untouched, but found: " << links_of(now.fd.get(), ino).at(0).name << " in "
                                                << links_of(now.fd.get(), links_of(now.fd.get(), ino).at(0).directory).at(0).name;
        }
        EXPECT_TRUE(changed_since(now, now.info.otransid).empty());
    }
};

TEST_F(TouchTest, ChangesOfContentsAreFoundAndNothingElse) {
    expect_found(touches_of_contents());
}

TEST_F(TouchTest, ChangesOfAttributesAndNamesAreFoundAndNothingElse) {
    expect_found(touches_of_attributes_and_names());
}

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

// What was only fsynced is in a log that is replayed when the file system is mounted after a crash.
TEST(BtrfsTreeLog, ReplayedChangesAreFound) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const std::string options = "noatime,commit=3600";  // no transaction of its own while the device is copied
    test::LoopMount mount("btrfs", 256 * kMiB, {}, options);
    create_subvolume(open_file(mount.path(), O_RDONLY).get(), "s");
    const auto snapshot = [&](const std::string& name) {
        create_snapshot(open_file(mount / "s", O_RDONLY).get(), open_file(mount.path(), O_RDONLY).get(), name, true);
        Snapshot made{mount / name, open_file(mount / name, O_RDONLY), {}};
        made.info = subvolume_info(made.fd.get());
        return made;
    };
    for (const char* const name : {"written", "truncated", "renamed", "xattr", "untouched", "small"}) {
        write_at(mount / "s" + "/" + name, 0, std::string_view(name) == "small" ? 100 : 100'000);
    }
    const std::uint64_t parent_transid = snapshot("parent").info.otransid;
    commit(open_file(mount.path(), O_RDONLY).get(), mount.path());

    write_at(mount / "s/written", 4096, 10);
    write_at(mount / "s/small", 0, 100, 'x');
    resize(mount / "s/truncated", 5000);
    xattr::set(open_file(mount / "s/xattr").get(), "user.a", filled(10, 'a'));
    fs::rename(mount / "s/renamed", mount / "s/renamed2");
    write_at(mount / "s/new", 0, 100'000);
    const std::set<std::string> fsynced{"written", "truncated", "renamed2", "xattr", "small", "new"};
    for (const std::string& name : fsynced) {
        sync_path(mount / ("s/" + name));
    }
    const test::ScratchDirectory scratch;
    test::run({"dd", "if=" + mount.device(), "of=" + (scratch / "crashed"), "bs=1M", "conv=sparse", "status=none"});
    test::run({"umount", mount.path()});
    test::run({"blkdiscard", "-f", mount.device()});
    test::run({"dd", "if=" + (scratch / "crashed"), "of=" + mount.device(), "bs=1M", "conv=sparse,notrunc,fsync", "status=none"});
    ASSERT_EQ(test::run({"btrfs", "inspect-internal", "dump-super", mount.device()}).find("log_root\t\t0\n"), std::string::npos)
        << "there is no log to replay";
    test::run({"mount", "-t", "btrfs", "-o", options, mount.device(), mount.path()});

    const Snapshot now = snapshot("now");
    const auto changed = changed_since(now, parent_transid);
    for (const std::string& name : fsynced) {
        EXPECT_TRUE(changed.contains(stat_path(now / name)->stx_ino)) << name;
    }
    EXPECT_FALSE(changed.contains(stat_path(now / "untouched")->stx_ino));
    EXPECT_TRUE(changed.contains(kFirstIno));  // entries
    EXPECT_EQ(changed.size(), fsynced.size() + 1);
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
