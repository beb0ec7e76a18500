// Prune: what it removes, what it never removes, and what an interruption leaves.
#include "snapshot/prune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "platform/error.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using test::MadeBackup;
using test::MadeRepository;

PruneResult prune(const MadeRepository& made, const PruneOptions& prune_options = {}) {
    Repository repository = made.open();
    LeaseOptions options;
    options.command = "test";
    Lease lease = Lease::acquire(repository.target(), repository.info().uuid, options);
    Progress progress;
    Report report;
    PruneResult result = run_prune(repository, lease, prune_options, report, progress);
    lease.release();
    return result;
}

bool is_whole(const MadeRepository& made) {
    Repository repository = made.open();
    VerifyOptions options;
    options.data = true;
    Progress progress;
    return !run_verify(repository, options, progress).needs_repair();
}

void forget(const MadeRepository& made, const Manifest& backup) {
    made.target->erase(layout::manifest(backup.name));
}

TEST(Prune, RemovesNothingThatABackupNeeds) {
    MadeRepository made;
    made.add_backup();
    made.add_backup();
    const auto before = made.names("packs/").size() + made.names("nodes/").size();
    const PruneResult result = prune(made);
    EXPECT_EQ(result.removed_packs, 0U);
    EXPECT_EQ(result.kept_packs, before);
    EXPECT_EQ(result.backups, 2U);
    EXPECT_EQ(made.names("packs/").size() + made.names("nodes/").size(), before);
}

TEST(Prune, WithoutAnyBackupNothingIsRemoved) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    forget(made, made.add_backup());
    const auto packs = made.names("packs/").size() + made.names("nodes/").size();
    forget(made, first);
    try {
        prune(made);
        ADD_FAILURE() << "no manifest is there";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kRefused) << error.message();
    }
    EXPECT_EQ(made.names("packs/").size() + made.names("nodes/").size(), packs);
    EXPECT_FALSE(is_whole(made));
    PruneOptions options;
    options.allow_no_backup = true;
    prune(made, options);
    EXPECT_TRUE(made.names("packs/").empty());
    EXPECT_TRUE(is_whole(made));
}

TEST(Prune, RemovesWhatOnlyAForgottenBackupUsed) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    const auto of_first = made.names("packs/").size() + made.names("nodes/").size();
    made.add_backup();
    forget(made, first);
    Progress progress;
    Report report;
    const PruneResult planned = plan_prune(made.open(), {}, report, progress);
    EXPECT_EQ(planned.removed_packs, of_first);
    EXPECT_EQ(made.names("packs/").size() + made.names("nodes/").size(), 2 * of_first) << "a plan removes nothing";
    const PruneResult result = prune(made);
    EXPECT_EQ(result.removed_packs, of_first);
    EXPECT_EQ(result.removed_bytes, planned.removed_bytes);
    EXPECT_TRUE(is_whole(made));
    EXPECT_EQ(prune(made).removed_packs, 0U);
}

// The later backup's manifest lists what it wrote itself; that it takes data from the first one's pack is told by its tree alone.
TEST(Prune, KeepsAPackThatOnlyALaterBackupsTreeRefersTo) {
    MadeRepository made;
    Repository repository = made.open();
    MadeBackup older;
    const PackId pack = older.data_pack(repository, 2);
    const Manifest first = older.publish(repository);
    MadeBackup later;
    later.inode(3, MadeBackup::file(pack, 0, 2));
    later.name(MadeBackup::kRoot, "file", 3);
    later.publish(repository);
    forget(made, first);
    EXPECT_EQ(prune(made).removed_packs, 1U) << "the metadata of the first";
    EXPECT_TRUE(is_whole(made));
}

TEST(Prune, RemovesNothingWhileAManifestCannotBeRead) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    const Manifest second = made.add_backup();
    made.add_backup();
    forget(made, first);
    const std::string object = layout::manifest(second.name);
    made.flip(object, 200);
    made.flip(object, made.size(object) / 2 + 200);
    const auto before = made.names("packs/");
    try {
        prune(made);
        FAIL() << "it went on";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        EXPECT_NE(error.hint().find("nothing is removed"), std::string::npos) << error.hint();
    }
    EXPECT_EQ(made.names("packs/"), before);
}

TEST(Prune, RemovesNothingWhileATreeCannotBeRead) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    forget(made, first);
    const auto orphans = made.names("nodes/");
    made.add_backup();
    for (const std::string& pack : made.names("nodes/")) {
        if (std::find(orphans.begin(), orphans.end(), pack) == orphans.end()) {
            made.flip(pack, 4096 + 60);
            made.flip(pack, 8192 + 60);
        }
    }
    const auto before = made.names("packs/");
    EXPECT_THROW(prune(made), Error);
    EXPECT_EQ(made.names("packs/"), before);
}

// A forget was killed when it had removed a manifest; the power goes when the first pack is gone.
TEST(Prune, AManifestThatAnotherRemovedCannotComeBackWhenItsPacksAreGone) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    made.add_backup();
    made.target->remove(layout::manifest(first.name));
    made.target->end_process();
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "prune.removed" && hooks.steps(step) == 1) {
            made.target->power_cut();
        }
    });
    prune(made);
    EXPECT_FALSE(made.target->contains(layout::manifest(first.name)));
    EXPECT_TRUE(is_whole(made));
}

TEST(Prune, RemovesNothingAfterItsLeaseWasTakenOver) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    made.add_backup();
    forget(made, first);
    const auto before = made.names("packs/");
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "prune.marked") {
            made.target->erase(std::string(layout::kExclusiveLock));
        }
    });
    try {
        prune(made);
        FAIL() << "it went on";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kLocked);
    }
    EXPECT_EQ(made.names("packs/"), before);
}

TEST(Prune, AFailingTargetCostsNothingThatIsNeeded) {
    using Op = test::StrictTarget::Op;
    for (const Op op : {Op::kRead, Op::kRemove, Op::kList, Op::kLoad, Op::kSwap}) {
        for (std::uint64_t nth = 1;; ++nth) {
            ASSERT_LT(nth, 500U);
            MadeRepository made;
            const Manifest first = made.add_backup();
            made.add_backup();
            forget(made, first);
            made.target->fail(op, nth, EIO);
            bool failed = false;
            try {
                prune(made);
            } catch (const Error&) {
                failed = true;
            }
            made.target->clear_faults();
            EXPECT_TRUE(is_whole(made)) << static_cast<int>(op) << ", " << nth;
            prune(made);
            EXPECT_EQ(prune(made).removed_packs, 0U);
            EXPECT_TRUE(is_whole(made)) << static_cast<int>(op) << ", " << nth;
            if (!failed) {
                break;
            }
        }
    }
}

}  // namespace
}  // namespace nodesnap
