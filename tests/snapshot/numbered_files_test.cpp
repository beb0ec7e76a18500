// Files of ext4 and XFS are opened by number and generation, and by nothing else.
#include "snapshot/backend/numbered_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "platform/file.h"
#include "platform/inode_flags.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

class NumberedFilesTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(OnEach, NumberedFilesTest, testing::Values("ext4", "xfs"),
                         [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); });

TEST_P(NumberedFilesTest, AreFoundByNumberAndGeneration) {
    const std::string type = GetParam();
    NODESNAP_NEEDS_LOOP_MOUNT(type);
    const test::LoopMount mount(type);
    const FileDescriptor root = open_path(mount / ".", O_RDONLY | O_DIRECTORY);
    FileDescriptor file = open_path(mount / "file", O_RDWR | O_CREAT, 0600);
    const std::uint64_t ino = stat_fd(file.get()).stx_ino;
    const std::uint64_t generation = inode_generation(file.get());
    ASSERT_NE(generation, 0U);
    std::filesystem::rename(mount / "file", mount / "renamed");
    const NumberedFiles files(root.get(), type);
    FileDescriptor found = files.open(ino, generation);
    ASSERT_TRUE(found);
    EXPECT_EQ(stat_fd(found.get()).stx_ino, ino);
    EXPECT_NE(::fcntl(found.get(), F_GETFL) & O_ACCMODE, O_RDWR);
    EXPECT_FALSE(files.open(ino, generation + 1));
    EXPECT_FALSE(files.open(ino, 0));
    EXPECT_FALSE(files.open(ino + 1'000'000, generation));
    const FileStatus of_root = stat_fd(root.get());
    EXPECT_FALSE(files.open(of_root.stx_ino, inode_generation(root.get()))) << "a directory";
    EXPECT_FALSE(NumberedFiles(root.get(), "btrfs").open(ino, generation));
    EXPECT_FALSE(files.place_proves());
    // Its number is another file's as soon as it is gone.
    file.reset();
    found.reset();
    std::filesystem::remove(mount / "renamed");
    for (int number = 0; number < 64; ++number) {
        open_path(mount / std::to_string(number), O_RDWR | O_CREAT, 0600);
    }
    EXPECT_FALSE(files.open(ino, generation));
}

}  // namespace
}  // namespace nodesnap
