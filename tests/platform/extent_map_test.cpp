#include "platform/extent_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

std::vector<Extent> extents_of(int fd, std::uint64_t start = 0) {
    ExtentReader reader(fd, "file", start);
    std::vector<Extent> all;
    Extent extent;
    while (reader.next(extent)) {
        all.push_back(extent);
    }
    return all;
}

// Neighbours of one kind made one: where an extent is split is the file system's business.
std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_of(const std::vector<Extent>& extents, bool unwritten) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    for (const Extent& extent : extents) {
        if (extent.unwritten() != unwritten) {
            continue;
        }
        if (!ranges.empty() && ranges.back().second == extent.logical) {
            ranges.back().second = extent.end();
        } else {
            ranges.emplace_back(extent.logical, extent.end());
        }
    }
    return ranges;
}

using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

class ExtentMapTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT(GetParam());
        mount_ = std::make_unique<test::LoopMount>(GetParam());
    }
    FileDescriptor make(const std::string& name) { return open_path(*mount_ / name, O_CREAT | O_RDWR, 0600); }
    static void put(int fd, std::uint64_t offset, std::uint64_t length) {
        pwrite_all(fd, std::vector<std::byte>(length, std::byte{0x5a}), offset, "file");
    }
    std::unique_ptr<test::LoopMount> mount_;
};

TEST_P(ExtentMapTest, HolesAreLeftOut) {
    const FileDescriptor file = make("file");
    put(file.get(), 1 * kMiB, 64 * kKiB);
    put(file.get(), 8 * kMiB, 64 * kKiB);
    ASSERT_EQ(::ftruncate(file.get(), 100 * kMiB), 0);
    sync_file(file.get(), "file");
    const auto extents = extents_of(file.get());
    EXPECT_EQ(ranges_of(extents, false), (Ranges{{1 * kMiB, 1 * kMiB + 64 * kKiB}, {8 * kMiB, 8 * kMiB + 64 * kKiB}}));
    EXPECT_EQ(ranges_of(extents, true), Ranges{});
    EXPECT_NE(extents.front().physical, 0u);
}

TEST_P(ExtentMapTest, PreallocatedIsUnwrittenAlsoBeyondTheEnd) {
    const FileDescriptor file = make("file");
    ASSERT_EQ(::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, 4 * kMiB), 0);
    put(file.get(), 1 * kMiB, 64 * kKiB);
    sync_file(file.get(), "file");
    const auto extents = extents_of(file.get());
    EXPECT_EQ(ranges_of(extents, false), (Ranges{{1 * kMiB, 1 * kMiB + 64 * kKiB}}));
    EXPECT_EQ(ranges_of(extents, true), (Ranges{{0, 1 * kMiB}, {1 * kMiB + 64 * kKiB, 4 * kMiB}}));
    EXPECT_EQ(stat_fd(file.get()).stx_size, 1 * kMiB + 64 * kKiB);
}

TEST_P(ExtentMapTest, MoreExtentsThanABatchAreAllTold) {
    const FileDescriptor file = make("file");
    constexpr std::uint64_t kExtents = 1000;
    const std::vector<std::byte> page(4096, std::byte{1});
    Ranges expected;
    for (std::uint64_t i = 0; i < kExtents; ++i) {
        pwrite_all(file.get(), page, i * 3 * 4096, "file");
        expected.emplace_back(i * 3 * 4096, i * 3 * 4096 + 4096);
    }
    sync_file(file.get(), "file");
    EXPECT_EQ(ranges_of(extents_of(file.get()), false), expected);
    // From the middle of an extent on: that one is told, those before it aren't.
    const auto from = [&](std::uint64_t start) { return ranges_of(extents_of(file.get(), start), false); };
    EXPECT_EQ(from(500 * 3 * 4096 + 100), Ranges(expected.begin() + 500, expected.end()));
    EXPECT_EQ(from(500 * 3 * 4096 + 4096), Ranges(expected.begin() + 501, expected.end()));
}

TEST_P(ExtentMapTest, EmptyAndWhollySparseFilesHaveNone) {
    const FileDescriptor file = make("file");
    EXPECT_TRUE(extents_of(file.get()).empty());
    ASSERT_EQ(::ftruncate(file.get(), std::int64_t{1} << 40), 0);
    EXPECT_TRUE(extents_of(file.get()).empty());
    put(file.get(), std::uint64_t{1} << 40, 4096);
    sync_file(file.get(), "file");
    EXPECT_EQ(ranges_of(extents_of(file.get()), false), (Ranges{{std::uint64_t{1} << 40, (std::uint64_t{1} << 40) + 4096}}));
    EXPECT_TRUE(extents_of(file.get(), std::uint64_t{1} << 41).empty());
}

class NoFiemap : public fault::Hooks {
public:
    NoFiemap() { fault::install(this); }
    ~NoFiemap() override { fault::install(nullptr); }
    int on_operation(const char* operation) noexcept override { return std::string_view(operation) == "fiemap" ? EOPNOTSUPP : 0; }
    void on_step(const char*) noexcept override {}
};

TEST_P(ExtentMapTest, WithoutFiemapHolesAreStillLeftOut) {
    const FileDescriptor file = make("file");
    put(file.get(), 1 * kMiB, 64 * kKiB);
    put(file.get(), 8 * kMiB, 64 * kKiB);
    ASSERT_EQ(::ftruncate(file.get(), 100 * kMiB), 0);
    sync_file(file.get(), "file");
    const NoFiemap hooks;
    EXPECT_EQ(ranges_of(extents_of(file.get()), false), (Ranges{{1 * kMiB, 1 * kMiB + 64 * kKiB}, {8 * kMiB, 8 * kMiB + 64 * kKiB}}));
    EXPECT_EQ(ranges_of(extents_of(file.get(), 4 * kMiB), false), (Ranges{{8 * kMiB, 8 * kMiB + 64 * kKiB}}));
}

INSTANTIATE_TEST_SUITE_P(FileSystems, ExtentMapTest, testing::Values("btrfs", "ext4", "xfs"),
                         [](const auto& file_system) { return std::string(file_system.param); });

TEST(ExtentMap, InlineExtentIsMarked) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const test::LoopMount mount("btrfs");
    write_file_durably(mount / "small", "inline");
    const FileDescriptor file = open_path(mount / "small", O_RDONLY);
    const auto extents = extents_of(file.get());
    ASSERT_EQ(extents.size(), 1u);
    EXPECT_EQ(extents[0].logical, 0u);
    EXPECT_NE(extents[0].flags & Extent::kInline, 0u);
}

TEST(ExtentMap, CompressedExtentIsMarked) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const test::LoopMount mount("btrfs", 512 * kMiB, {}, "compress-force=zstd");
    write_file_durably(mount / "zeros", std::string(kMiB, '\0'));
    const FileDescriptor file = open_path(mount / "zeros", O_RDONLY);
    const auto extents = extents_of(file.get());
    ASSERT_FALSE(extents.empty());
    EXPECT_NE(extents[0].flags & Extent::kEncoded, 0u);
}

TEST(ExtentMap, TmpfsTellsDataAndHoles) {
    const FileDescriptor file = open_path("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    pwrite_all(file.get(), std::vector<std::byte>(4096, std::byte{1}), kMiB, "file");
    ASSERT_EQ(::ftruncate(file.get(), 10 * kMiB), 0);
    EXPECT_EQ(ranges_of(extents_of(file.get()), false), (Ranges{{kMiB, kMiB + 4096}}));
}

}  // namespace
}  // namespace nodesnap
