// Extended attributes and inode flags, on the file systems that nodes live on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

using Value = std::vector<std::byte>;

Value value_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return Value(bytes.begin(), bytes.end());
}

class AttributesTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT(GetParam());
        mount_ = std::make_unique<test::LoopMount>(GetParam());
        root_ = open_path(mount_->path(), O_RDONLY | O_DIRECTORY);
    }
    void TearDown() override { root_.reset(); }

    FileDescriptor make(const std::string& name) { return open_at(root_.get(), name, O_CREAT | O_RDWR, 0644); }

    std::unique_ptr<test::LoopMount> mount_;
    FileDescriptor root_;
};

TEST_P(AttributesTest, AreKeptByDescriptor) {
    const FileDescriptor file = make("file");
    const Value binary = value_of(std::string_view("\0\xff\n\0", 4));
    xattr::set(file.get(), "user.binary", binary);
    xattr::set(file.get(), "user.empty", {});
    xattr::set(file.get(), "trusted.large", Value(3000, std::byte{7}));
    EXPECT_EQ(xattr::get(file.get(), "user.binary"), binary);
    EXPECT_EQ(xattr::get(file.get(), "user.empty"), Value());
    EXPECT_EQ(xattr::get(file.get(), "trusted.large"), Value(3000, std::byte{7}));
    EXPECT_EQ(xattr::get(file.get(), "user.none"), std::nullopt);
    auto names = xattr::list(file.get());
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, (std::vector<std::string>{"trusted.large", "user.binary", "user.empty"}));
    EXPECT_TRUE(xattr::remove(file.get(), "user.empty"));
    EXPECT_FALSE(xattr::remove(file.get(), "user.empty"));
    EXPECT_EQ(xattr::get(file.get(), "user.empty"), std::nullopt);
}

TEST_P(AttributesTest, OfSymlinksAndDevicesAreReachedByName) {
    const FileDescriptor file = make("file");
    ASSERT_EQ(::symlinkat("file", root_.get(), "link"), 0);
    ASSERT_EQ(::mknodat(root_.get(), "fifo", S_IFIFO | 0600, 0), 0);
    ASSERT_EQ(::mknodat(root_.get(), "device", S_IFCHR | 0600, 0), 0);
    for (const char* name : {"link", "fifo", "device"}) {
        const Value value = value_of(name);
        xattr::set_at(root_.get(), name, "trusted.own", value);
        EXPECT_EQ(xattr::get_at(root_.get(), name, "trusted.own"), value) << name;
        EXPECT_EQ(xattr::list_at(root_.get(), name), std::vector<std::string>{"trusted.own"}) << name;
    }
    EXPECT_TRUE(xattr::list(file.get()).empty()) << "a symlink's attribute went to its target";
    EXPECT_TRUE(xattr::remove_at(root_.get(), "link", "trusted.own"));
    EXPECT_TRUE(xattr::list_at(root_.get(), "link").empty());
    EXPECT_FALSE(xattr::list_at(root_.get(), "fifo").empty());
}

TEST_P(AttributesTest, FlagsAreSetAndTold) {
    const FileDescriptor file = make("file");
    const auto before = inode_flags(file.get());
    ASSERT_TRUE(before);
    ASSERT_TRUE(set_inode_flags(file.get(), *before | FS_APPEND_FL | FS_NODUMP_FL));
    EXPECT_EQ(*inode_flags(file.get()) & (FS_APPEND_FL | FS_NODUMP_FL), static_cast<std::uint32_t>(FS_APPEND_FL | FS_NODUMP_FL));
    EXPECT_THROW(open_at(root_.get(), "file", O_WRONLY), Error);  // append-only
    ASSERT_TRUE(set_inode_flags(file.get(), *before));
    EXPECT_EQ(inode_flags(file.get()), before);
}

TEST_P(AttributesTest, GenerationTellsAReusedInodeNumberApart) {
    const FileDescriptor file = make("file");
    // Three of three file systems keep one; a new file's differs from that of the file which had its number.
    EXPECT_EQ(inode_generation(file.get()), inode_generation(open_at(root_.get(), "file", O_RDONLY).get()));
    EXPECT_NE(inode_generation(file.get()), 0u);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, AttributesTest, testing::Values("btrfs", "ext4", "xfs"),
                         [](const auto& file_system) { return std::string(file_system.param); });

TEST(Attributes, FlagsLeaveHowAFileIsCompressed) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const test::LoopMount mount("btrfs");
    constexpr std::uint32_t kFlags = FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL | FS_IMMUTABLE_FL;
    for (const char* algorithm : {"lzo", "none"}) {
        const FileDescriptor file = open_path(mount / algorithm, O_CREAT | O_RDWR, 0644);
        xattr::set(file.get(), "btrfs.compression", value_of(algorithm));
        const auto before = inode_flags(file.get());
        ASSERT_TRUE(set_inode_flags(file.get(), *before | kFlags));
        EXPECT_EQ(inode_flags(file.get()), *before | kFlags);
        ASSERT_TRUE(set_inode_flags(file.get(), *before));
        EXPECT_EQ(inode_flags(file.get()), before);
        EXPECT_EQ(xattr::get(file.get(), "btrfs.compression"), value_of(algorithm));
    }
}

TEST(Attributes, WhereThereAreNoneListingGivesNone) {
    // Pipes have no attributes at all.
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const FileDescriptor in(ends[0]);
    const FileDescriptor out(ends[1]);
    EXPECT_TRUE(xattr::list(in.get()).empty());
    EXPECT_EQ(xattr::get(in.get(), "user.x"), std::nullopt);
    EXPECT_EQ(inode_flags(in.get()), std::nullopt);
    EXPECT_FALSE(set_inode_flags(in.get(), 0));
    EXPECT_EQ(inode_generation(in.get()), 0u);
}

}  // namespace
}  // namespace nodesnap
