// What two clones of a file have in common, on real file systems; and how unwritten ranges are put in between extents.
#include "snapshot/drain/extent_changes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "platform/entry.h"
#include "platform/file.h"
#include "snapshot/backend/same_blocks.h"
#include "snapshot/drain/taken_over.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kPage = 4096;

struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool operator==(const Range&) const = default;
};
using Ranges = std::vector<Range>;

void PrintTo(const Range& range, std::ostream* out) {
    *out << '[' << range.begin << ", " << range.end << ')';
}

class ExtentChangesTest : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        const std::string type = GetParam();
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        mount_.emplace(type);
        file_ = open_path(*mount_ / "file", O_RDWR | O_CREAT, 0600);
    }
    void write(std::uint64_t offset, std::uint64_t length, char content) const {
        const std::vector<std::byte> data(length, static_cast<std::byte>(content));
        pwrite_all(file_.get(), data, offset, "file");
    }
    FileDescriptor clone(const std::string& name) const {
        FileDescriptor made = open_path(*mount_ / name, O_RDWR | O_CREAT | O_EXCL, 0600);
        EXPECT_EQ(entry::clone_file(file_.get(), made.get()), 0);
        return made;
    }
    // What of `now` is data and differs from `before`; what is the same goes to `same`.
    static Ranges changed(const FileDescriptor& before, const FileDescriptor& now, Ranges* same = nullptr,
                          const SameBlocks* blocks = nullptr) {
        Ranges found;
        ExtentChanges changes(before.get(), now.get(), "file", blocks);
        std::uint64_t position = 0;
        for (Extent extent; changes.next(extent);) {
            EXPECT_GE(extent.logical, position);
            position = extent.end();
            const bool is_same = (extent.flags & ExtentChanges::kSame) != 0;
            Ranges* const ranges = is_same ? same : extent.unwritten() ? nullptr : &found;
            if (ranges == nullptr) {
                continue;
            }
            if (!ranges->empty() && ranges->back().end == extent.logical) {
                ranges->back().end = extent.end();
            } else {
                ranges->push_back({extent.logical, extent.end()});
            }
        }
        return found;
    }
    bool allocate(int mode, std::uint64_t offset, std::uint64_t length) const {
        return ::fallocate(file_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0;
    }

    std::optional<test::LoopMount> mount_;
    FileDescriptor file_;
};

INSTANTIATE_TEST_SUITE_P(OnEach, ExtentChangesTest, testing::Values("xfs", "btrfs"),
                         [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); });

TEST_P(ExtentChangesTest, WhatWasNotWrittenToIsTheSame) {
    write(0, 1 << 20, 'a');
    const FileDescriptor before = clone("before");
    Ranges same;
    EXPECT_EQ(changed(before, clone("now"), &same), Ranges{});
    EXPECT_EQ(same, (Ranges{{0, 1 << 20}}));
}

TEST_P(ExtentChangesTest, WhatWasWrittenDiffersAlsoIfItIsTheSameByte) {
    write(0, 1 << 20, 'a');
    const FileDescriptor before = clone("before");
    write(3 * kPage, kPage, 'a');
    write(100 * kPage, 10, 'b');
    write(1 << 20, 2 * kPage, 'c');
    Ranges same;
    const Ranges found = changed(before, clone("now"), &same);
    EXPECT_EQ(found, (Ranges{{3 * kPage, 4 * kPage}, {100 * kPage, 101 * kPage}, {1 << 20, (1 << 20) + 2 * kPage}}));
    EXPECT_EQ(same, (Ranges{{0, 3 * kPage}, {4 * kPage, 100 * kPage}, {101 * kPage, 1 << 20}}));
}

// A part of a compressed extent that is cloned over another part of it: both say that they lie where the whole extent does.
TEST(CompressedClones, TheirPlaceTellsNothing) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    constexpr std::uint64_t kHalf = 64U << 10;
    const test::LoopMount mount("btrfs", std::uint64_t{512} << 20, {}, "compress-force=zstd");
    const FileDescriptor file = open_path(mount / "file", O_RDWR | O_CREAT, 0600);
    std::vector<std::byte> data(2 * kHalf, std::byte{'a'});
    std::fill(data.begin() + kHalf, data.end(), std::byte{'b'});
    pwrite_all(file.get(), data, 0, "file");
    sync_file(file.get(), "file");
    const FileDescriptor before = open_path(mount / "before", O_RDWR | O_CREAT, 0600);
    ASSERT_EQ(entry::clone_file(file.get(), before.get()), 0);
    const file_clone_range second_half{file.get(), kHalf, kHalf, 0};
    ASSERT_EQ(::ioctl(file.get(), FICLONERANGE, &second_half), 0);
    ExtentChanges changes(before.get(), file.get(), "file");
    bool encoded = false;
    for (Extent extent; changes.next(extent);) {
        encoded |= (extent.flags & Extent::kEncoded) != 0;
        EXPECT_TRUE(extent.logical >= kHalf || (extent.flags & ExtentChanges::kSame) == 0) << "other data";
    }
    EXPECT_TRUE(encoded) << "it isn't compressed: this proves nothing";
}

TEST_P(ExtentChangesTest, HolesUnwrittenRangesAndMovedBlocks) {
    write(0, 1 << 20, 'a');
    const FileDescriptor before = clone("before");
    ASSERT_TRUE(allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16 * kPage, 16 * kPage));
    ASSERT_TRUE(allocate(FALLOC_FL_ZERO_RANGE, 64 * kPage, 16 * kPage));
    Ranges same;
    EXPECT_EQ(changed(before, clone("punched"), &same), Ranges{});
    EXPECT_EQ(same, (Ranges{{0, 16 * kPage}, {32 * kPage, 64 * kPage}, {80 * kPage, 1 << 20}}));
    // Blocks that the file has already, in another place.
    file_clone_range range{};
    range.src_fd = file_.get();
    range.src_length = 4 * kPage;
    range.dest_offset = 128 * kPage;
    ASSERT_EQ(::ioctl(file_.get(), FICLONERANGE, &range), 0);
    EXPECT_EQ(changed(before, clone("within")), (Ranges{{128 * kPage, 132 * kPage}}));
    if (allocate(FALLOC_FL_COLLAPSE_RANGE, 0, kPage)) {
        same.clear();
        changed(before, clone("collapsed"), &same);
        EXPECT_EQ(same, Ranges{});
    }
}

TEST_P(ExtentChangesTest, WhatWasPreallocatedBeforeAndWrittenSinceDiffers) {
    ASSERT_TRUE(allocate(0, 0, 1 << 20));
    const FileDescriptor before = clone("before");
    write(8 * kPage, 2 * kPage, 'a');
    Ranges same;
    EXPECT_EQ(changed(before, clone("now"), &same), (Ranges{{8 * kPage, 10 * kPage}}));
    EXPECT_EQ(same, Ranges{});
}

// More extents than are looked at at once, in the one or in the other.
TEST_P(ExtentChangesTest, ManyExtents) {
    constexpr std::uint64_t kPages = 3000;
    write(0, kPages * kPage, 'a');
    sync_file(file_.get(), "file");
    const FileDescriptor whole = clone("whole");
    Ranges written;
    for (std::uint64_t page = 1; page < kPages; page += 2) {
        write(page * kPage, kPage, 'b');
        written.push_back({page * kPage, (page + 1) * kPage});
    }
    const FileDescriptor pieces = clone("pieces");
    Ranges same;
    EXPECT_EQ(changed(whole, pieces, &same), written);
    EXPECT_EQ(same.size(), written.size());
    same.clear();
    EXPECT_EQ(changed(pieces, whole, &same), written);
    EXPECT_EQ(same.size(), written.size());
    same.clear();
    EXPECT_EQ(changed(pieces, clone("again"), &same), Ranges{});
    EXPECT_EQ(same, (Ranges{{0, kPages * kPage}}));
}

// The device's blocks must be the same, too; more pieces than are made at once.
TEST_P(ExtentChangesTest, WhatLiesInOtherBlocksDiffers) {
    constexpr std::uint64_t kPages = 12'000;
    write(0, kPages * kPage, 'a');
    sync_file(file_.get(), "file");
    const FileDescriptor before = clone("before");
    SameBlocks none(kPage, std::uint64_t{1} << 30);
    Ranges same;
    EXPECT_EQ(changed(before, file_, &same, &none), (Ranges{{0, kPages * kPage}}));
    EXPECT_EQ(same, Ranges{});
    SameBlocks odd(kPage, std::uint64_t{1} << 30);
    for (std::uint64_t block = 1; block < (std::uint64_t{1} << 30) / kPage; block += 2) {
        odd.add(block, 1);
    }
    Ranges expected;
    ExtentReader reader(file_.get(), "file");
    for (Extent extent; reader.next(extent);) {
        for (std::uint64_t at = 0; !extent.unwritten() && at < extent.length; at += kPage) {  // XFS has some beyond the end
            if ((extent.physical + at) / kPage % 2 == 1) {
                const Range page{extent.logical + at, extent.logical + at + kPage};
                if (!expected.empty() && expected.back().end == page.begin) {
                    expected.back().end = page.end;
                } else {
                    expected.push_back(page);
                }
            }
        }
    }
    same.clear();
    const Ranges found = changed(before, file_, &same, &odd);
    EXPECT_EQ(same, expected);
    EXPECT_GT(same.size(), 5000U);
    std::uint64_t covered = 0;
    for (const Ranges* ranges : {&found, static_cast<const Ranges*>(&same)}) {
        for (const Range& range : *ranges) {
            covered += range.end - range.begin;
        }
    }
    EXPECT_EQ(covered, kPages * kPage);
}

TEST(WithUnwritten, RangesComeWhereTheExtentsHaveHoles) {
    using Texts = std::vector<std::string>;
    const auto merged = [](std::vector<Extent> extents, std::vector<UnwrittenRange> ranges) {
        Texts texts;
        std::size_t number = 0;
        const auto next = with_unwritten(
            [&](Extent& extent) {
                if (number == extents.size()) {
                    return false;
                }
                extent = extents[number++];
                return true;
            },
            std::move(ranges));
        for (Extent extent; next(extent);) {
            texts.push_back((extent.unwritten() ? "u" : "d") + std::to_string(extent.logical) + "-" + std::to_string(extent.end()));
        }
        return texts;
    };
    const auto data = [](std::uint64_t begin, std::uint64_t end) { return Extent{begin, 7, end - begin, 0}; };
    EXPECT_EQ(merged({}, {}), Texts{});
    EXPECT_EQ(merged({data(0, 5)}, {}), (Texts{"d0-5"}));
    EXPECT_EQ(merged({}, {{3, 4}, {7, 1}}), (Texts{"u3-7", "u7-8"}));
    EXPECT_EQ(merged({data(0, 5), data(9, 12)}, {{5, 4}, {12, 8}}), (Texts{"d0-5", "u5-9", "d9-12", "u12-20"}));
    EXPECT_EQ(merged({data(4, 6)}, {{0, 10}}), (Texts{"u0-4", "d4-6", "u6-10"}));
    EXPECT_EQ(merged({data(4, 6), data(7, 8)}, {{0, 10}}), (Texts{"u0-4", "d4-6", "u6-7", "d7-8", "u8-10"}));
    EXPECT_EQ(merged({data(0, 10)}, {{2, 3}, {6, 1}}), (Texts{"d0-10"})) << "what has data isn't unwritten";
    EXPECT_EQ(merged({data(0, 10)}, {{8, 4}}), (Texts{"d0-10", "u10-12"}));
    EXPECT_EQ(merged({data(5, 10)}, {{3, 4}}), (Texts{"u3-5", "d5-10"}));
}

}  // namespace
}  // namespace nodesnap
