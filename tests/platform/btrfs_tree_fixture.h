// A btrfs with one subvolume "s", snapshots of it one after the other, and what tests do to its files.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "platform/btrfs.h"
#include "platform/btrfs_tree.h"
#include "platform/file.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::btrfs {

inline constexpr std::uint64_t kBlock = 4096;
inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;

// Throws what went wrong: a test that can't do what it means to tests nothing.
inline void must(long result, const std::string& what) {
    if (result < 0) {
        throw std::system_error(errno, std::generic_category(), what);
    }
}

inline FileDescriptor open_file(const std::string& path, int flags = O_RDWR | O_CREAT) {
    return open_path(path, flags, 0600);
}

inline std::vector<std::byte> filled(std::uint64_t length, int with) {
    return std::vector<std::byte>(length, static_cast<std::byte>(with));
}

inline void write_at(const std::string& path, std::uint64_t offset, std::uint64_t length, int with = 0x5a) {
    pwrite_all(open_file(path).get(), filled(length, with), offset, path);
}

inline void resize(const std::string& path, std::uint64_t size) {
    must(::truncate(path.c_str(), static_cast<off_t>(size)), "truncate " + path);
}

inline void allocate(const std::string& path, int mode, std::uint64_t offset, std::uint64_t length) {
    must(::fallocate(open_file(path).get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)), "fallocate " + path);
}

inline void punch(const std::string& path, std::uint64_t offset, std::uint64_t length) {
    allocate(path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

inline void clone_range(const std::string& from, std::uint64_t from_offset, std::uint64_t length, const std::string& to,
                        std::uint64_t to_offset) {
    const FileDescriptor source = open_file(from);
    file_clone_range range{};
    range.src_fd = source.get();
    range.src_offset = from_offset;
    range.src_length = length;
    range.dest_offset = to_offset;
    must(::ioctl(open_file(to).get(), FICLONERANGE, &range), "clone into " + to);
}

inline void sync_path(const std::string& path) {
    sync_file(open_file(path, O_RDONLY).get(), path);
}

struct Snapshot {
    std::string path;
    FileDescriptor fd;
    SubvolumeInfo info;
    std::string operator/(const std::string& name) const { return path + "/" + name; }
};

// The touched inodes by number.
inline std::map<std::uint64_t, InodeItem> changed_since(const Snapshot& snapshot, std::uint64_t after_transid) {
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

class BtrfsTreeTest : public testing::Test {
protected:
    explicit BtrfsTreeTest(std::string mount_options = "", std::vector<std::string> mkfs_options = {})
        : mount_options_(std::move(mount_options)), mkfs_options_(std::move(mkfs_options)) {}
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs", 512 * kMiB, mkfs_options_, mount_options_);
        create_subvolume(open_file(mount_->path(), O_RDONLY).get(), "s");
    }
    std::string operator/(const std::string& name) const { return *mount_ / ("s/" + name); }
    Snapshot snapshot() {
        const std::string name = "snapshot" + std::to_string(++snapshots_);
        create_snapshot(open_file(*this / "", O_RDONLY).get(), open_file(mount_->path(), O_RDONLY).get(), name, true);
        Snapshot made{*mount_ / name, open_file(*mount_ / name, O_RDONLY), {}};
        made.info = subvolume_info(made.fd.get());
        return made;
    }
    static std::uint64_t ino_of(const std::string& path) { return stat_path(path, AT_SYMLINK_NOFOLLOW).value().stx_ino; }

    std::string mount_options_;
    std::vector<std::string> mkfs_options_;
    std::unique_ptr<test::LoopMount> mount_;
    int snapshots_ = 0;
};

}  // namespace nodesnap::btrfs
