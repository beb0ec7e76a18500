// Compaction: which packs prune rewrites, what it leaves in them, and what an interruption at each step leaves.
#include "snapshot/prune/compaction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "platform/error.h"
#include "snapshot/prune.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using test::FaultHooks;
using test::MadeBackup;
using test::MadeRepository;
using Op = test::StrictTarget::Op;

// A backup that wrote six segments was forgotten; the one after it uses `first` to `first + count` of them.
class CompactionTest : public testing::Test {
protected:
    void make(std::uint32_t first, std::uint32_t count) {
        Repository repository = made_.open();
        MadeBackup older;
        pack_ = older.data_pack(repository, 6);
        older.inode(3, MadeBackup::file(pack_, 0, 6));
        older.name(MadeBackup::kRoot, "file", 3);
        const Manifest manifest = older.publish(repository);
        MadeBackup later;
        later.inode(3, MadeBackup::file(pack_, first, count));
        later.name(MadeBackup::kRoot, "file", 3);
        later.publish(repository);
        made_.target->erase(layout::manifest(manifest.name));
    }

    PruneResult prune(const PruneOptions& options = {}) {
        Repository repository = made_.open();
        LeaseOptions lease_options;
        lease_options.command = "test";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options);
        Progress progress;
        PruneResult result = run_prune(repository, lease, options, report_, progress);
        lease.release();
        return result;
    }
    PruneResult plan(const PruneOptions& options = {}) {
        Progress progress;
        return plan_prune(made_.open(), options, report_, progress);
    }
    RepairResult repair() {
        Repository repository = made_.open();
        LeaseOptions lease_options;
        lease_options.command = "test";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options);
        Progress progress;
        return run_repair(repository, lease, progress);
    }
    bool is_whole() const {
        Repository repository = made_.open();
        VerifyOptions options;
        options.data = true;
        Progress progress;
        return !run_verify(repository, options, progress).needs_repair();
    }
    std::string object(std::uint32_t generation) const { return layout::pack({layout::PackKind::kData, pack_, generation}); }
    std::shared_ptr<const PackReader> open() const {
        return PackReader::open(*made_.target, made_.open().info().uuid, layout::PackKind::kData, pack_, {});
    }
    std::uint64_t stored() const {
        std::uint64_t bytes = 0;
        for (const char* folder : {"packs/", "nodes/"}) {
            made_.target->list(folder, [&](const ObjectEntry& entry) { bytes += entry.size; });
        }
        return bytes;
    }
    static PruneOptions at(unsigned max_unused_percent) {
        PruneOptions options;
        options.max_unused_percent = max_unused_percent;
        return options;
    }

    MadeRepository made_;
    PackId pack_;
    Report report_;
};

TEST_F(CompactionTest, LeavesOutWhatNobodyUsesAndKeepsTheNumbers) {
    make(4, 2);
    const std::uint64_t before = stored();
    const PruneResult planned = plan();
    EXPECT_EQ(stored(), before) << "a plan changes nothing";
    const PruneResult done = prune();
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(1)});
    const auto pack = open();
    ASSERT_EQ(pack->index().size(), 6U);
    for (std::uint32_t number = 0; number < 6; ++number) {
        EXPECT_EQ(pack->index().segment(number).plain_length, number < 4 ? 0 : MadeBackup::kSegmentBytes) << number;
    }
    EXPECT_TRUE(is_whole());
    EXPECT_EQ(done.rewritten_packs, 1U);
    EXPECT_EQ(done.rewritten_bytes, made_.size(object(1)));
    EXPECT_EQ(before - stored(), done.removed_bytes + done.rewriting_freed_bytes);
    EXPECT_EQ(stored(), done.kept_bytes);
    EXPECT_EQ(planned.rewritten_packs, done.rewritten_packs);
    EXPECT_EQ(planned.rewritten_bytes, done.rewritten_bytes);
    EXPECT_EQ(planned.rewriting_freed_bytes, done.rewriting_freed_bytes);
    EXPECT_EQ(planned.kept_bytes, done.kept_bytes);
    EXPECT_EQ(prune().rewritten_packs, 0U);
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(CompactionTest, LeavesPacksOfWhichEnoughIsInUse) {
    make(1, 4);
    EXPECT_EQ(prune().rewritten_packs, 0U);
    EXPECT_EQ(prune(at(100)).rewritten_packs, 0U);
    EXPECT_GT(prune(at(40)).unused_bytes, 2 * MadeBackup::kSegmentBytes);
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(0)});
    const PruneResult done = prune(at(20));
    EXPECT_EQ(done.rewritten_packs, 1U);
    EXPECT_EQ(done.unused_bytes, 0U);
    EXPECT_EQ(prune(at(0)).rewritten_packs, 0U) << "nothing is left to free";
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, APackThatItsBackupListsStaysWhenNothingInItIsUsed) {
    Repository repository = made_.open();
    MadeBackup backup;
    pack_ = backup.data_pack(repository, 6);
    backup.publish(repository);
    EXPECT_EQ(prune().rewritten_packs, 1U);
    EXPECT_LE(made_.size(object(1)), 5 * kPackAlignment);
    EXPECT_TRUE(is_whole());
    EXPECT_EQ(prune(at(0)).rewritten_packs, 0U);
}

TEST_F(CompactionTest, NodesGoInBothCopies) {
    // A tree of several nodes in one pack, of which a later backup uses none but the pack's own list keeps it.
    Repository repository = made_.open();
    MadeBackup backup;
    backup.publish(repository, [](NodeWriter& nodes) {
        TreeBuilder unused(nodes);
        for (std::uint64_t ino = 10; ino < 5000; ++ino) {
            Inode inode;
            inode.size = ino * 77;
            unused.add(key::inode(ino), encode(inode));
        }
        unused.finish();
        TreeBuilder used(nodes);
        Inode root;
        root.type = FileType::kDirectory;
        used.add(key::inode(MadeBackup::kRoot), encode(root));
        return used.finish();
    });
    const std::uint64_t before = made_.size(made_.node_pack());
    EXPECT_EQ(prune().rewritten_packs, 1U);
    EXPECT_TRUE(made_.node_pack().ends_with(".1.pack"));
    EXPECT_LT(made_.size(made_.node_pack()), before / 2);
    EXPECT_TRUE(is_whole());
    // Either copy serves.
    made_.flip(made_.node_pack(), kPackAlignment + 20);
    EXPECT_EQ(repair().repaired_count, 1U);
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, ARepairKeepsWhatWasLeftOutLeftOut) {
    make(4, 2);
    prune();
    made_.flip(object(1), made_.size(object(1)) - 4000);  // in a trailer
    const RepairResult repaired = repair();
    EXPECT_EQ(repaired.repaired_count, 1U);
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(2)});
    EXPECT_TRUE(is_whole());
}

// ---- Damage

TEST_F(CompactionTest, APackWithADamagedBlockThatIsUsedIsLeftAlone) {
    make(4, 2);
    const std::uint64_t offset = open()->index().segment(5).offset;
    made_.flip(object(0), offset + 70000);
    const Bytes before = made_.target->peek(object(0));
    const PruneResult done = prune();
    EXPECT_EQ(done.left_damaged_packs, 1U);
    EXPECT_EQ(done.rewritten_packs, 0U);
    EXPECT_EQ(report_.count(), 1U);
    EXPECT_NE(report_.warnings().at(0).find("segment 5"), std::string::npos) << report_.warnings().at(0);
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(0)});
    EXPECT_EQ(made_.target->peek(object(0)), before);
    EXPECT_EQ(made_.target->unfinished(), 0U);
}

TEST_F(CompactionTest, ADamagedBlockThatNobodyUsesGoes) {
    make(4, 2);
    made_.flip(object(0), open()->index().segment(1).offset + 70000);
    EXPECT_EQ(prune().rewritten_packs, 1U);
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, APackThatHasLostACopyIsLeftForRepair) {
    make(4, 2);
    made_.flip(object(0), made_.size(object(0)) - 4000);
    EXPECT_EQ(prune().left_damaged_packs, 1U);
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(0)});
    repair();
    EXPECT_EQ(prune().rewritten_packs, 1U);
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, NothingIsRemovedWhenWhatWasWrittenCannotBeReadBack) {
    make(4, 2);
    made_.target->corrupt_next_finish(kPackAlignment + 5);
    EXPECT_THROW(prune(), Error);
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(0)});
    EXPECT_TRUE(is_whole());
}

// A generation that a power cut or a kill has left beside the next one.
TEST_F(CompactionTest, AnOlderGenerationGoesWhenTheNewerHasAllThatIsUsed) {
    make(4, 2);
    const Bytes old = made_.target->peek(object(0));
    prune();
    made_.target->poke(object(0), old);
    EXPECT_EQ(plan().rewriting_freed_bytes, old.size());
    const PruneResult done = prune();
    EXPECT_EQ(done.rewritten_packs, 0U);
    EXPECT_EQ(done.rewriting_freed_bytes, old.size());
    EXPECT_EQ(made_.names("packs/"), std::vector<std::string>{object(1)});
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, AnOlderGenerationStaysWhenTheNewerIsDamaged) {
    make(4, 2);
    const Bytes old = made_.target->peek(object(0));
    prune();
    made_.target->poke(object(0), old);
    made_.flip(object(1), open()->index().segment(4).offset + 7);
    EXPECT_EQ(prune().left_damaged_packs, 1U);
    EXPECT_TRUE(made_.target->contains(object(0)));
    EXPECT_EQ(repair().lost_count, 0U);
    EXPECT_TRUE(is_whole());
}

// ---- Interruptions

TEST_F(CompactionTest, AFullTargetKeepsWhatItHasAndIsAWarning) {
    make(4, 2);
    for (const Op op : {Op::kWrite, Op::kFinish}) {
        made_.target->fail(op, 1, ENOSPC);
        const PruneResult done = prune();
        EXPECT_EQ(done.left_packs_for_space, 1U);
        EXPECT_EQ(done.rewritten_packs, 0U);
        EXPECT_EQ(done.kept_bytes, stored());
        EXPECT_TRUE(is_whole());
    }
    EXPECT_EQ(report_.count(), 2U);
    EXPECT_FALSE(made_.target->contains(object(1)));
    EXPECT_EQ(prune().rewritten_packs, 1U);
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, WhatNobodyNeedsGoesBeforeAnythingIsWritten) {
    make(4, 2);
    FaultHooks hooks;
    std::vector<std::string> steps;
    hooks.on_each_step([&](const std::string& step) {
        if (step.starts_with("prune.") || step.starts_with("compaction.")) {
            steps.push_back(step);
        }
    });
    prune();
    EXPECT_EQ(steps,
              (std::vector<std::string>{"prune.marked", "prune.removed", "prune.swept", "compaction.written", "compaction.removed"}));
}

TEST_F(CompactionTest, AtEachStepAReaderFindsEverything) {
    make(4, 2);
    const auto early = open();
    FaultHooks hooks;
    std::uint64_t looked = 0;
    hooks.on_each_step([&](const std::string& step) {
        if (step.starts_with("prune.") || step.starts_with("compaction.")) {
            ++looked;
            EXPECT_TRUE(is_whole()) << step;
            Bytes data(MadeBackup::kSegmentBytes);
            early->read_stored(data, early->index().segment(5).offset);
            EXPECT_EQ(data, Bytes(MadeBackup::kSegmentBytes, std::byte{6})) << step;
        }
    });
    prune();
    EXPECT_EQ(looked, 5U);
}

TEST_F(CompactionTest, NothingIsRemovedAfterTheLeaseWasTakenOver) {
    make(4, 2);
    FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "compaction.written") {
            made_.target->erase(std::string(layout::kExclusiveLock));
        }
    });
    try {
        prune();
        FAIL() << "it went on";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kLocked);
    }
    EXPECT_TRUE(made_.target->contains(object(0)));
    EXPECT_TRUE(is_whole());
}

TEST_F(CompactionTest, AFailingTargetLosesNothing) {
    for (const Op op : {Op::kBegin, Op::kWrite, Op::kFinish, Op::kOpen, Op::kRead, Op::kRemove, Op::kList, Op::kPersist}) {
        for (const auto kind : {test::StrictTarget::FaultKind::kBefore, test::StrictTarget::FaultKind::kAfter}) {
            for (std::uint64_t nth = 1;; ++nth) {
                ASSERT_LT(nth, 500U);
                made_ = MadeRepository();
                make(4, 2);
                made_.target->fail(op, nth, EIO, kind);
                bool failed = false;
                try {
                    failed = prune().left_damaged_packs != 0;
                } catch (const Error&) {
                    failed = true;
                }
                made_.target->clear_faults();
                EXPECT_TRUE(is_whole()) << static_cast<int>(op) << ", " << nth;
                prune();
                EXPECT_EQ(made_.names("packs/").size(), 1U) << static_cast<int>(op) << ", " << nth;
                EXPECT_FALSE(made_.target->contains(object(0))) << static_cast<int>(op) << ", " << nth;
                EXPECT_TRUE(is_whole());
                if (!failed) {
                    break;
                }
            }
        }
    }
}

// ---- Caps

Throttle::Clock::time_point frozen() {
    return Throttle::Clock::time_point(std::chrono::hours(1));
}

// What is read, written and read back passes the throttle: with a clock that stands still it tells what was booked.
TEST_F(CompactionTest, KeepsToTheCap) {
    make(4, 2);
    constexpr std::uint64_t kRate = 100'000'000;
    Throttle throttle(kRate, frozen);
    throttle.reserve(kRate / 10);  // what is free at first
    Repository repository = made_.open();
    LeaseOptions lease_options;
    lease_options.command = "test";
    const Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options);
    Progress progress;
    PackState state;
    state.id = pack_;
    state.generations = {0};
    state.used.add(4, 2);
    ASSERT_EQ(Compaction(repository, lease, 50, throttle, progress).run(state).outcome, Compaction::Outcome::kRewritten);
    const std::uint64_t segments = 2 * MadeBackup::kSegmentBytes;
    const double booked = std::chrono::duration<double>(throttle.reserve(1)).count() * kRate;
    EXPECT_NEAR(booked, static_cast<double>(segments + made_.size(object(1)) + segments), 10);
}

}  // namespace
}  // namespace nodesnap
