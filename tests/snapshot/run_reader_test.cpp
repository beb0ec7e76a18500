// Plans of reads, and what they prove; the ledger of a restore.
#include "snapshot/run_reader.h"

#include <gtest/gtest.h>

#include <cstring>

#include "platform/error.h"
#include "snapshot/restore/batch.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap::test {
namespace {

constexpr std::uint32_t kSegment = MadeBackup::kSegmentBytes;
constexpr std::uint64_t kPitch = (kSegment + kPackAlignment - 1) / kPackAlignment * kPackAlignment;  // from segment to segment in the pack

class RunReader : public testing::Test {
protected:
    nodesnap::Run run(std::uint64_t offset, std::uint64_t length, std::uint32_t first, std::uint32_t skip, std::uint32_t count) const {
        return {offset, length, pack_, first, skip, count, nodesnap::Run::kNone};
    }
    static std::string name(std::uint32_t file) { return "file" + std::to_string(file); }

    MadeRepository repositories_;
    Repository repository_ = repositories_.open();
    MadeBackup made_;
    PackId pack_ = made_.data_pack(repository_, 40);
};

TEST_F(RunReader, NeighboursAreReadTogetherUpToTheLimit) {
    ReadPlan plan(repository_);
    plan.add(run(0, 30 * kSegment, 5, 0, 30), 7, name);
    EXPECT_EQ(plan.bytes(), 30U * kSegment);
    const auto reads = plan.finish();
    std::uint64_t at = 0;
    for (const auto& read : reads) {
        EXPECT_EQ(read.offset % kPackAlignment, 0U);
        EXPECT_EQ(read.length % kPackAlignment, 0U);
        EXPECT_LE(read.length, kReadLimit);
        for (const auto& piece : read.pieces) {
            EXPECT_EQ(piece.file, 7U);
            EXPECT_EQ(piece.file_offset, at);
            at += piece.length;
        }
    }
    EXPECT_EQ(at, 30U * kSegment);
    EXPECT_EQ(reads.size(), 3U);  // ten segments each
    EXPECT_TRUE(plan.empty());
}

TEST_F(RunReader, OnlyTouchedBlocksAreRead) {
    ReadPlan plan(repository_);
    plan.add(run(1000, 10, 3, 70'000, 1), 0, name);  // the segment's second block
    auto reads = plan.finish();
    ASSERT_EQ(reads.size(), 1U);
    EXPECT_EQ(reads[0].offset, 4096 + 3 * kPitch + kChecksumBlock);
    EXPECT_EQ(reads[0].length, kPitch - kChecksumBlock);
    plan.add(run(0, 10, 0, 0, 1), 0, name);
    plan.add(run(10, 10, 30, 0, 1), 1, name);  // far away
    reads = plan.finish();
    EXPECT_EQ(reads.size(), 2U);
}

TEST_F(RunReader, PartsOfRunsBeginInAnySegment) {
    std::string content;
    for (int segment = 2; segment < 8; ++segment) {
        content += std::string(kSegment, static_cast<char>(segment + 1));
    }
    content = content.substr(12'345, 500'000);
    Inode file;
    file.size = 600'000;
    file.runs = {run(50'000, 500'000, 2, 12'345, 6)};
    file.run_count = 1;
    content = std::string(50'000, '\0') + content + std::string(50'000, '\0');
    MapReader reader(repository_, file, "file");
    for (const std::uint64_t begin : {0, 49'999, 137'655, 300'000, 549'990}) {
        for (const std::uint64_t length : {1, 70'000, 333'333}) {
            if (begin + length > file.size) {
                continue;
            }
            Bytes got(length);
            reader.read(got, begin);
            EXPECT_EQ(std::memcmp(got.data(), content.data() + begin, length), 0) << begin << ' ' << length;
        }
    }
    // One piece after the other.
    Bytes all(file.size);
    for (std::uint64_t at = 0; at < file.size; at += 7'000) {
        reader.read(std::span(all).subspan(at, std::min<std::uint64_t>(7'000, file.size - at)), at);
    }
    EXPECT_EQ(std::memcmp(all.data(), content.data(), all.size()), 0);
}

TEST_F(RunReader, AFlippedBitIsNamedWithFileAndRange) {
    const auto object = repositories_.data_pack();
    repositories_.flip(object, 4096 + 2 * kPitch + 80'000);
    ReadPlan plan(repository_);
    plan.add(run(1'000'000, 60'000, 2, 0, 1), 0, name);  // the first block is good
    plan.add(run(2'000'000, 10, 2, 90'000, 1), 1, name);
    const auto reads = plan.finish();
    ASSERT_EQ(reads.size(), 1U);
    Bytes data(reads[0].length);
    reads[0].pack->reader().read(data, reads[0].offset);
    try {
        verify_read(reads[0], data, repository_.hasher(), name);
        FAIL() << "nothing was noticed";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        EXPECT_NE(error.message().find("file1"), std::string::npos) << error.message();
        EXPECT_NE(error.message().find("2000000"), std::string::npos) << error.message();
        EXPECT_NE(error.message().find(object), std::string::npos) << error.message();
    }
}

TEST_F(RunReader, APlanIsFullWhenItsPacksOrPiecesAre) {
    ReadPlan few(repository_, {.pieces = 10});
    few.add(run(0, 9 * kSegment, 0, 0, 9), 0, name);
    EXPECT_FALSE(few.full());
    few.add(run(0, kSegment, 0, 0, 1), 0, name);
    EXPECT_TRUE(few.full());
    ReadPlan small(repository_, {.index_bytes = 1});
    small.add(run(0, 1, 0, 0, 1), 0, name);
    EXPECT_TRUE(small.full());
    small.finish();
    EXPECT_FALSE(small.full());
}

TEST(RestoreLedger, OnlyAnUnbrokenBeginningCounts) {
    RestoreState state;
    state.batches = 3;
    state.bytes = 100;
    state.large = {{3 * RestoreBatch::kEntries + 1, {77, 1}}, {5 * RestoreBatch::kEntries, {RestoreState::kWhole, 2}}};
    RestoreLedger ledger(state);
    EXPECT_EQ(ledger.first_batch(), 3U);
    EXPECT_EQ(ledger.large_at_start(3 * RestoreBatch::kEntries + 1), 77U);
    EXPECT_EQ(ledger.large_at_start(3 * RestoreBatch::kEntries), 0U);
    RestoreBatch third(3, ledger);
    RestoreBatch fourth(4, ledger);
    RestoreBatch fifth(5, ledger);
    fourth.add_part();
    fifth.part_done(5);
    fourth.part_done(0);
    third.part_done(10);
    RestoreState now;
    ledger.fill(now);
    EXPECT_EQ(now.batches, 4U);
    EXPECT_EQ(now.bytes, 110U);
    EXPECT_EQ(now.large.size(), 1U) << "what is complete needs no further word";
    ledger.large_written(6 * RestoreBatch::kEntries, 12, 3);
    fourth.part_done(1);
    ledger.fill(now);
    EXPECT_EQ(now.batches, 6U);
    EXPECT_EQ(now.bytes, 116U);
    EXPECT_EQ(now.large, (std::map<std::uint64_t, RestoreState::Large>{{6 * RestoreBatch::kEntries, {12, 3}}}));
}

}  // namespace
}  // namespace nodesnap::test
