// Each way of touching an inode, also one that only a log remembers after a crash: it is found, and nothing else is.
#include <sys/mman.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "platform/btrfs_tree.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "tests/platform/btrfs_tree_fixture.h"

namespace nodesnap::btrfs {
namespace {

namespace fs = std::filesystem;

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
                const std::string where = fs::path(directory) / path;
                expected[ino_of(where)] = where;
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

}  // namespace
}  // namespace nodesnap::btrfs
