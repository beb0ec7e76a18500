#include "snapshot/backend/nameless_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/xattr.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

class NamelessFilesTest : public testing::Test {
protected:
    NamelessFilesTest() {
        entry::make_directory(AT_FDCWD, node_, 0755);
        entry::make_directory(AT_FDCWD, tree_path_, 0700);
        tree_ = open_path(tree_path_, O_RDONLY | O_DIRECTORY);
    }

    static void write(int fd, const std::string& text) { pwrite_all(fd, std::as_bytes(std::span(text)), 0, "a test's file"); }
    static std::string read(int fd) {
        std::array<char, 64> buffer{};
        return {buffer.data(), static_cast<std::size_t>(::pread(fd, buffer.data(), buffer.size(), 0))};
    }
    std::string read_named(const NamelessFiles& files, const std::string& name) const {
        const FileDescriptor file(files.try_open(tree_.get(), name, O_RDONLY | O_NOFOLLOW));
        return file ? read(file.get()) : "error " + std::to_string(-file.get());
    }

    const test::ScratchDirectory scratch_;
    const std::string node_ = scratch_.path() + "/node", tree_path_ = scratch_.path() + "/tree";
    FileDescriptor tree_;
};

TEST_F(NamelessFilesTest, EntriesStandForFiles) {
    NamelessFiles files(node_);
    FileDescriptor made = files.make("one");
    write(made.get(), "content");
    files.put(tree_.get(), "one", std::move(made), 17, "one");
    EXPECT_EQ(read_named(files, "one"), "content");
    EXPECT_EQ(files.number_of(tree_.get(), "one"), 17U);
    EXPECT_EQ(files.status_of(tree_.get(), "one")->stx_size, 7U);
    EXPECT_EQ(FileDescriptor(files.try_open(17, O_RDONLY)).get() >= 0, true);
    EXPECT_EQ(files.try_open(18, O_RDONLY), -ENOENT);
    EXPECT_EQ(stat_at(tree_.get(), "one")->stx_size, 0U) << "only a name";
    EXPECT_FALSE(stat_path(node_ + "/one"));

    const FileDescriptor written(files.try_open(tree_.get(), "one", O_RDONLY | O_DIRECT));
    EXPECT_EQ(::write(written.get(), "x", 1), -1) << "opened anew, as it was asked for";
}

TEST_F(NamelessFilesTest, FileIsGivenUpWithItsLastName) {
    NamelessFiles files(node_);
    FileDescriptor made = files.make("one");
    const FileDescriptor kept = open_path("/proc/self/fd/" + std::to_string(made.get()), O_RDONLY);
    files.put(tree_.get(), "one", std::move(made), 17, "one");
    ASSERT_EQ(entry::link(tree_.get(), "one", tree_.get(), "two"), 0);
    EXPECT_EQ(files.remove(tree_.get(), "one"), 0);
    EXPECT_EQ(files.number_of(tree_.get(), "two"), 17U);
    EXPECT_EQ(files.try_open(tree_.get(), "one", O_RDONLY), -ENOENT);
    EXPECT_EQ(files.remove(tree_.get(), "two"), 0);
    EXPECT_EQ(files.try_open(17, O_RDONLY), -ENOENT);
    EXPECT_EQ(files.remove(tree_.get(), "two"), ENOENT);

    // The same name again is another file.
    files.put(tree_.get(), "two", files.make("two"), 18, "two");
    EXPECT_EQ(files.number_of(tree_.get(), "two"), 18U);
}

TEST_F(NamelessFilesTest, OtherEntriesStandForNothing) {
    NamelessFiles files(node_);
    ASSERT_EQ(entry::make_directory(tree_.get(), "directory", 0700), 0);
    ASSERT_EQ(entry::make_symlink("nowhere", tree_.get(), "link"), 0);
    open_at(tree_.get(), "file", O_WRONLY | O_CREAT, 0600);
    for (const char* name : {"directory", "link", "file", "none"}) {
        EXPECT_FALSE(files.number_of(tree_.get(), name)) << name;
        EXPECT_FALSE(files.status_of(tree_.get(), name)) << name;
        EXPECT_EQ(files.try_open(tree_.get(), name, O_RDONLY), -ENOENT) << name;
    }
    EXPECT_EQ(files.remove(tree_.get(), "directory"), EISDIR);
    EXPECT_EQ(files.remove(tree_.get(), "link"), 0);
    try {
        files.put(tree_.get(), "file", files.make("file"), 3, "file");
        FAIL() << "there is one of that name";
    } catch (const Error& error) {
        EXPECT_EQ(error.error_number(), EEXIST);
    }
}

TEST_F(NamelessFilesTest, NothingIsInherited) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root";
    }
    ASSERT_EQ(::chown(node_.c_str(), 0, 4321), 0);
    ASSERT_EQ(::chmod(node_.c_str(), 02775), 0);
    const FileDescriptor node = open_path(node_, O_RDONLY | O_DIRECTORY);
    // A default ACL that gives user 1234 all: version 2; user::rwx, user:1234:rwx, group::r-x, mask::rwx, other::---
    const std::array<std::uint16_t, 20> entries{1,      7,      0xffff, 0xffff, 2,      7,      1234, 0, 4,      5,
                                                0xffff, 0xffff, 16,     7,      0xffff, 0xffff, 32,   0, 0xffff, 0xffff};
    std::vector<std::byte> acl{std::byte{2}, std::byte{0}, std::byte{0}, std::byte{0}};
    const auto bytes = std::as_bytes(std::span(entries));
    acl.insert(acl.end(), bytes.begin(), bytes.end());
    xattr::set(node.get(), "system.posix_acl_default", acl, node_);
    NamelessFiles files(node_);
    const FileDescriptor made = files.make("one");
    const FileStatus status = stat_fd(made.get());
    EXPECT_EQ(status.stx_mode & 07777, 0600);
    EXPECT_EQ(status.stx_gid, 0U);
    EXPECT_EQ(status.stx_nlink, 0U);
    EXPECT_FALSE(xattr::get(made.get(), "system.posix_acl_access"));
}

}  // namespace
}  // namespace nodesnap
