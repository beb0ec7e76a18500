// Merging: what of a file is written anew, and that it is the same file afterwards.
#include "snapshot/prune/merge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "platform/error.h"
#include "snapshot/prune.h"
#include "snapshot/prune/fragments.h"
#include "snapshot/run_reader.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using test::MadeBackup;
using test::MadeRepository;
using Op = test::StrictTarget::Op;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kTornBytes = 100;  // that the last page lacks
constexpr std::uint64_t kFile = 3;

class MergeTest : public testing::Test {
protected:
    MergeTest() : seed_(std::random_device{}()), random_(seed_) { std::cout << "seed " << seed_ << '\n'; }

    // One page of the file, from anywhere in the pack.
    nodesnap::Run page(std::uint64_t number, const PackId& pack) {
        nodesnap::Run run;
        run.offset = number * kPage;
        run.length = kPage;
        run.pack = pack;
        run.first = static_cast<std::uint32_t>(random_() % 6);
        run.skip = static_cast<std::uint32_t>(random_() % (MadeBackup::kSegmentBytes - kPage));
        run.count = 1;
        return run;
    }

    // `state_of(page)`: 'd' data, 'h' a hole, 'u' unwritten. Each page of data is a run.
    void make(std::uint64_t pages, const std::function<char(std::uint64_t)>& state_of) {
        Repository repository = made_.open();
        MadeBackup backup;
        pack_ = backup.data_pack(repository, 6);
        backup.publish(repository, [&](NodeWriter& nodes) {
            MapBuilder map(nodes);
            for (std::uint64_t number = 0; number < pages; ++number) {
                if (state_of(number) == 'd') {
                    nodesnap::Run run = page(number, pack_);
                    run.length -= number + 1 == pages ? kTornBytes : 0;
                    map.add(run);
                } else if (state_of(number) == 'u') {
                    nodesnap::Run run;
                    run.offset = number * kPage;
                    run.length = kPage;
                    run.flags = nodesnap::Run::kUnwritten;
                    map.add(run);
                }
            }
            const auto built = map.finish();
            Inode inode;
            inode.mode = 0644;
            inode.size = pages * kPage - kTornBytes;
            inode.runs = built.inline_runs;
            inode.map = built.root;
            inode.run_count = built.run_count;
            Inode root;
            root.type = FileType::kDirectory;
            TreeBuilder tree(nodes);
            tree.add(key::inode(MadeBackup::kRoot), encode(root));
            tree.add(key::dirent(MadeBackup::kRoot, "file"), encode(Dirent{kFile, FileType::kRegular}));
            tree.add(key::inode(kFile), encode(inode));
            return tree.finish();
        });
    }

    Inode file() const {
        Repository repository = made_.open();
        const Manifest newest = repository.find_backup("latest");
        return decode_inode(tree_find(repository.nodes(), newest.tree, key::inode(kFile)).value());
    }
    Bytes content() const {
        Repository repository = made_.open();
        const Inode inode = file();
        Bytes bytes(inode.size);
        MapReader(repository, inode, "file").read(bytes, 0);
        return bytes;
    }
    std::vector<nodesnap::Run> runs() const {
        Repository repository = made_.open();
        const Inode inode = file();
        MapCursor cursor(repository.nodes(), inode);
        std::vector<nodesnap::Run> found;
        for (nodesnap::Run run; cursor.next(run);) {
            found.push_back(run);
        }
        return found;
    }
    // 'd', 'h' or 'u' for each page.
    std::string allocation(std::uint64_t pages) const {
        std::string text(pages, 'h');
        for (const nodesnap::Run& run : runs()) {
            for (std::uint64_t at = run.offset; at < run.end(); at += kPage) {
                text[at / kPage] = run.flags == nodesnap::Run::kNone ? 'd' : 'u';
            }
        }
        return text;
    }
    PruneResult prune(MergeWhen when = MergeWhen::kAlways) {
        Repository repository = made_.open();
        LeaseOptions lease_options;
        lease_options.command = "test";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options);
        Progress progress;
        PruneOptions options;
        options.merge = when;
        PruneResult result = run_prune(repository, lease, options, report_, progress);
        lease.release();
        return result;
    }
    bool is_whole() const {
        Repository repository = made_.open();
        VerifyOptions options;
        options.data = true;
        Progress progress;
        return !run_verify(repository, options, progress).needs_repair();
    }

    const unsigned seed_;
    std::mt19937 random_;
    MadeRepository made_;
    PackId pack_;
    Report report_;
};

TEST_F(MergeTest, OnePageARunBecomesOneRunAWindowOrLess) {
    make(256 * 5, [](std::uint64_t) { return 'd'; });
    const Bytes before = content();
    const PruneResult done = prune();
    EXPECT_EQ(done.merged_files, 1U);
    EXPECT_EQ(done.merged_bytes, 256 * 5 * kPage - kTornBytes);
    EXPECT_EQ(content(), before);
    EXPECT_EQ(runs().size(), 1U) << "neighbouring segments of one pack are one run";
    EXPECT_EQ(made_.names("backups/").size(), 1U);
    EXPECT_TRUE(is_whole());
    EXPECT_EQ(prune().merged_files, 0U);
    // What only the superseded revision used goes with the next prune: whoever reads it has until then.
    EXPECT_LT(made_.size(layout::pack({layout::PackKind::kData, pack_, 1})), 2 * MadeBackup::kSegmentBytes);
    EXPECT_EQ(content(), before);
    EXPECT_TRUE(is_whole());
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(MergeTest, TheManifestTellsHowLongTheNewPacksAre) {
    make(256 * 5, [](std::uint64_t) { return 'd'; });
    const auto newest = [this] { return made_.open().find_backup("latest"); };
    const std::size_t before = newest().packs.size();
    EXPECT_TRUE(newest().pack_bytes.empty());  // as of an earlier version's backup
    prune();
    const Manifest merged = newest();
    ASSERT_EQ(merged.packs.size(), before + 2);  // one of data, one of nodes
    ASSERT_EQ(merged.pack_bytes.size(), merged.packs.size());
    EXPECT_TRUE(std::all_of(merged.pack_bytes.begin(), merged.pack_bytes.end() - 2, [](std::uint64_t bytes) { return bytes == 0; }));
    EXPECT_EQ(merged.pack_bytes[before], made_.size(layout::pack({layout::PackKind::kData, merged.packs[before], 0})));
    EXPECT_EQ(merged.pack_bytes[before + 1], made_.size(layout::pack({layout::PackKind::kNodes, merged.packs[before + 1], 0})));
}

TEST_F(MergeTest, TakesAQuarterOfTheFreeSpaceUnlessItIsToldTo) {
    constexpr std::uint64_t kMiB = 1 << 20;
    make(256 * 5, [](std::uint64_t) { return 'd'; });
    const std::uint64_t bytes = 256 * 5 * kPage - kTornBytes;
    EXPECT_EQ(prune(MergeWhen::kNever).left_fragmented_bytes, 0U);
    made_.target->set_free_bytes(4 * (bytes + 64 * kMiB) - 4);
    const PruneResult left = prune(MergeWhen::kAffordable);
    EXPECT_EQ(left.merged_files, 0U);
    EXPECT_EQ(left.left_fragmented_bytes, bytes);
    EXPECT_EQ(report_.count(), 0U);
    made_.target->set_free_bytes(bytes + 64 * kMiB - 1);
    const PruneResult full = prune(MergeWhen::kAlways);
    EXPECT_EQ(full.left_fragmented_bytes, bytes);
    EXPECT_EQ(full.merge_free_bytes, bytes + 64 * kMiB - 1);
    EXPECT_EQ(full.merge_needed_bytes, bytes + 64 * kMiB);
    EXPECT_EQ(report_.count(), 1U);
    made_.target->set_free_bytes(4 * (bytes + 64 * kMiB));
    EXPECT_EQ(prune(MergeWhen::kAffordable).merged_bytes, bytes);
    EXPECT_EQ(runs().size(), 1U);
}

TEST_F(MergeTest, HolesAndUnwrittenRangesStayWhatTheyAre) {
    const auto state = [](std::uint64_t page) { return page % 256 < 40 ? 'h' : page % 256 > 200 ? 'u' : 'd'; };
    make(256 * 3, state);
    const Bytes before = content();
    const std::string allocated = allocation(256 * 3);
    EXPECT_EQ(prune().merged_files, 1U);
    EXPECT_EQ(content(), before);
    EXPECT_EQ(allocation(256 * 3), allocated);
    EXPECT_LT(runs().size(), 200U);
    EXPECT_TRUE(is_whole());
}

TEST_F(MergeTest, RandomMapsStayTheSameFile) {
    for (int round = 0; round < 20; ++round) {
        made_ = MadeRepository();
        std::string states;
        while (states.size() < 256 * 6) {
            const char state = "dddddhu"[random_() % 7];
            states.append(1 + random_() % (random_() % 4 == 0 ? 700 : 40), state);
        }
        make(states.size(), [&](std::uint64_t page) { return states[page]; });
        const Bytes before = content();
        const std::string allocated = allocation(states.size());
        prune();
        ASSERT_EQ(content(), before) << "seed " << seed_;
        ASSERT_EQ(allocation(states.size()), allocated) << "seed " << seed_;
        ASSERT_TRUE(is_whole()) << "seed " << seed_;
    }
}

TEST_F(MergeTest, FilesOfFewPiecesAndScatteredPagesAreLeftAlone) {
    make(256 * 4, [](std::uint64_t page) { return page % 2 == 0 ? 'd' : 'h'; });  // nothing to gain
    EXPECT_EQ(prune().merged_files, 0U);
    made_ = MadeRepository();
    make(60 * 20, [](std::uint64_t page) { return page % 256 < 60 ? 'd' : 'h'; });
    EXPECT_EQ(prune().merged_files, 0U);
    EXPECT_EQ(made_.names("journal/").size(), 0U);
}

TEST_F(MergeTest, WhatCannotBeReadStaysWhereItIs) {
    make(256 * 4, [](std::uint64_t) { return 'd'; });
    const nodesnap::Run broken = runs().at(256 + 17);
    const auto pack = PackReader::open(*made_.target, made_.open().info().uuid, layout::PackKind::kData, pack_, {});
    made_.flip(pack->object(), pack->index().segment(broken.first).offset + broken.skip);
    const PruneResult done = prune();
    EXPECT_GE(report_.count(), 1U);
    const std::vector<nodesnap::Run> after = runs();
    for (const nodesnap::Run& run : after) {
        EXPECT_TRUE(run.end() <= broken.offset || run.offset >= broken.end() || run == broken);
    }
    EXPECT_LT(done.merged_bytes, 256 * 4 * kPage);
    EXPECT_EQ(made_.names("journal/").size(), 0U);
}

TEST_F(MergeTest, AtEachStepTheBackupIsWhole) {
    make(256 * 3, [](std::uint64_t) { return 'd'; });
    const Bytes before = content();
    test::FaultHooks hooks;
    std::vector<std::string> steps;
    hooks.on_each_step([&](const std::string& step) {
        if (step.starts_with("verify.")) {
            return;  // of the look at it
        }
        steps.push_back(step);
        EXPECT_TRUE(is_whole()) << step;
        EXPECT_EQ(content(), before) << step;
    });
    prune();
    const std::vector<std::string> wanted = {"session.begun",       "merge.data-durable",       "nodes.pack-written",
                                             "merge.packs-durable", "publish.revision-checked", "revision.written",
                                             "revision.removed",    "merge.published",          "prune.marked"};
    ASSERT_GE(steps.size(), wanted.size());
    EXPECT_EQ(std::vector<std::string>(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(wanted.size())), wanted);
}

TEST_F(MergeTest, AFullTargetIsAWarningAndLeavesNothing) {
    for (const Op op : {Op::kWrite, Op::kFinish, Op::kBegin}) {
        made_ = MadeRepository();
        make(256 * 3, [](std::uint64_t) { return 'd'; });
        const auto packs = made_.names("packs/");
        const auto warnings = report_.count();
        made_.target->fail(op, 1, ENOSPC);
        EXPECT_EQ(prune().merged_files, 0U);
        EXPECT_EQ(report_.count(), warnings + 1);
        EXPECT_EQ(made_.names("packs/"), packs);
        EXPECT_EQ(made_.names("journal/").size(), 0U);
        EXPECT_TRUE(is_whole());
        EXPECT_EQ(prune().merged_files, 1U);
        EXPECT_TRUE(is_whole());
    }
}

TEST_F(MergeTest, NothingIsWrittenWhereNothingMayBeRemoved) {
    make(256 * 3, [](std::uint64_t) { return 'd'; });
    const std::string other = made_.names("backups/").at(0);
    make(256 * 3, [](std::uint64_t) { return 'd'; });
    made_.target->spoil(other, 0);
    made_.target->spoil(other, 4096);
    for (std::uint64_t at = 0; at < made_.size(other); at += 64) {
        made_.flip(other, at);
    }
    const auto packs = made_.names("packs/");
    EXPECT_THROW(prune(), Error);
    EXPECT_EQ(made_.names("packs/"), packs);
}

TEST_F(MergeTest, AFailingTargetLosesNothing) {
    for (const Op op : {Op::kCreate, Op::kBegin, Op::kWrite, Op::kFinish, Op::kOpen, Op::kRead, Op::kLoad, Op::kRemove, Op::kList}) {
        for (const auto kind : {test::StrictTarget::FaultKind::kBefore, test::StrictTarget::FaultKind::kAfter}) {
            for (std::uint64_t nth = 1; nth < 40; ++nth) {
                made_ = MadeRepository();
                make(256 * 2, [](std::uint64_t) { return 'd'; });
                const Bytes before = content();
                made_.target->fail(op, nth, EIO, kind);
                bool failed = false;
                try {
                    prune();
                } catch (const Error&) {
                    failed = true;
                }
                made_.target->clear_faults();
                EXPECT_TRUE(is_whole()) << static_cast<int>(op) << ", " << nth;
                EXPECT_EQ(content(), before) << static_cast<int>(op) << ", " << nth;
                made_.target->erase(std::string(layout::kExclusiveLock));  // its release may have failed
                prune();
                EXPECT_TRUE(is_whole()) << static_cast<int>(op) << ", " << nth;
                EXPECT_EQ(content(), before) << static_cast<int>(op) << ", " << nth;
                if (!failed && nth > 12) {
                    break;
                }
            }
        }
    }
}

}  // namespace
}  // namespace nodesnap
