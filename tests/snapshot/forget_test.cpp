// What run_forget() removes, in what order, and what an interruption at each step leaves.
#include <cerrno>

#include "platform/host.h"
#include "platform/interrupt.h"
#include "tests/snapshot/forget_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using test::FaultHooks;
using test::keep_last;
using test::MadeRepository;
using test::named;
using Op = test::StrictTarget::Op;

class Forget : public test::ForgetTest {};

TEST_F(Forget, RemovesWhatNoRuleKeepsAndNothingElse) {
    backups(5);
    const auto packs = repository_.names("packs/");
    const auto nodes = repository_.names("nodes/");
    const ForgetResult result = forget(keep_last(2));
    EXPECT_EQ(result.plan.removed, 3U);
    EXPECT_EQ(result.plan.kept(), 2U);
    EXPECT_EQ(left(), (std::vector<int>{3, 4}));
    EXPECT_EQ(repository_.names("packs/"), packs);
    EXPECT_EQ(repository_.names("nodes/"), nodes);
    EXPECT_TRUE(whole());
    EXPECT_EQ(forget(keep_last(2)).plan.removed, 0U);
    EXPECT_EQ(repository_.open().find_backup("latest").id.hex(), id(4));
}

TEST_F(Forget, APlanRemovesNothingAndNeedsNoLock) {
    backups(3);
    const auto before = repository_.names("");
    repository_.target->set_writable(false);
    const ForgetPlan plan = plan_forget(repository_.open(), keep_last(1), report_);
    EXPECT_EQ(plan.removed, 2U);
    EXPECT_TRUE(plan.is_mass_expiry());
    EXPECT_EQ(repository_.names(""), before);
}

TEST_F(Forget, RemovesTheOldestFirst) {
    backups(4);
    std::vector<std::vector<int>> seen;
    FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "forget.removed") {
            seen.push_back(left());
        }
    });
    forget(keep_last(1));
    EXPECT_EQ(seen, (std::vector<std::vector<int>>{{1, 2, 3}, {2, 3}, {3}}));
}

TEST_F(Forget, WithoutRuleAndNameIsWrongUsage) {
    backups(2);
    EXPECT_EQ(status_of({}), ExitStatus::kUsage);
    ForgetOptions both = keep_last(1);
    both.backups = {id(0)};
    EXPECT_EQ(status_of(both), ExitStatus::kUsage);
    ForgetOptions newest = keep_last(1);
    newest.allow_newest = true;
    EXPECT_EQ(status_of(newest), ExitStatus::kUsage);
    EXPECT_EQ(status_of(named({"xyz"})), ExitStatus::kUsage);
    EXPECT_EQ(left().size(), 2U);
}

TEST_F(Forget, MoreThanHalfIsRefusedUnlessItIsAllowed) {
    backups(5);
    ForgetOptions options = keep_last(2);
    options.allow_mass_expire = false;
    EXPECT_EQ(status_of(options), ExitStatus::kRefused);
    EXPECT_NE(message_.find("--allow-mass-expire"), std::string::npos) << message_;
    EXPECT_EQ(left().size(), 5U);
    ForgetOptions names = named({id(0), id(1), id(2)});
    names.allow_mass_expire = false;
    EXPECT_EQ(status_of(names), ExitStatus::kRefused);
    EXPECT_EQ(left().size(), 5U);
    options.rules.last = 3;
    EXPECT_EQ(status_of(options), ExitStatus::kDone);
    EXPECT_EQ(left(), (std::vector<int>{2, 3, 4}));
}

// ---- By name

TEST_F(Forget, RemovesWhatIsNamed) {
    backups(4);
    const ForgetResult result = forget(named({id(1), id(2).substr(0, 12), id(1)}));
    EXPECT_EQ(result.plan.removed, 2U);
    EXPECT_EQ(left(), (std::vector<int>{0, 3}));
}

TEST_F(Forget, TheNewestGoodOneNeedsAWord) {
    backups(3);
    make_incomplete(2);
    EXPECT_EQ(status_of(named({"latest"})), ExitStatus::kRefused);
    EXPECT_NE(message_.find("--allow-newest"), std::string::npos) << message_;
    EXPECT_EQ(status_of(named({id(0), id(1)})), ExitStatus::kRefused);
    EXPECT_EQ(left().size(), 3U);
    EXPECT_EQ(status_of(named({id(2)})), ExitStatus::kDone);  // incomplete
    ForgetOptions options = named({"latest"});
    options.allow_newest = true;
    EXPECT_EQ(status_of(options), ExitStatus::kDone);
    EXPECT_EQ(left(), (std::vector<int>{0}));
}

TEST_F(Forget, WhatIsGoneAlreadyIsAWarningUnlessAllIs) {
    backups(3);
    const std::string gone = id(0);
    forget(named({gone}));
    EXPECT_EQ(status_of(named({gone})), ExitStatus::kRefused);
    EXPECT_EQ(report_.count(), 0U);
    EXPECT_EQ(status_of(named({gone, id(1)})), ExitStatus::kDone);
    EXPECT_EQ(report_.count(), 1U);
    EXPECT_EQ(left(), (std::vector<int>{2}));
}

// ---- Revisions

TEST_F(Forget, AllRevisionsGoTheOneThatCountsLast) {
    backups(2);
    for (const std::uint32_t revision : {1U, 2U, 3U}) {
        add_revision(0, revision, [](Manifest& manifest) { manifest.tags = {"newer"}; });
    }
    ruin(object(0).substr(0, object(0).size() - 1) + "1");
    std::vector<std::string> steps;
    FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "revision.removed" || step == "forget.superseded-removed") {
            steps.push_back(step);
            repository_.open().for_each_backup([&](const BackupEntry& entry) {
                ASSERT_TRUE(entry.manifest);
                EXPECT_TRUE(entry.manifest->id == made_[1].id || entry.name.revision == 3) << entry.object;
            });
        }
    });
    forget(keep_last(1));
    EXPECT_EQ(left(), (std::vector<int>{1}));
    EXPECT_EQ(repository_.names("backups/").size(), 1U);
    EXPECT_EQ(steps, (std::vector<std::string>{"revision.removed", "revision.removed", "revision.removed", "forget.superseded-removed",
                                               "revision.removed"}));
}

// Between an older revision and the one that counts, and at the end.
TEST_F(Forget, RemovalsAreMadeDurableInOrder) {
    backups(2);
    add_revision(0, 1, [](Manifest&) {});
    std::vector<std::uint64_t> persisted;
    under_lease([&](Repository& repository, Lease& lease) {
        FaultHooks hooks;
        hooks.on_each_step([&](const std::string& step) {
            if (step == "revision.removed") {
                persisted.push_back(repository_.target->count(Op::kPersist));
            }
        });
        run_forget(repository, lease, keep_last(1), report_);
        persisted.push_back(repository_.target->count(Op::kPersist));
    });
    ASSERT_EQ(persisted.size(), 3U);
    EXPECT_GT(persisted[1], persisted[0]);
    EXPECT_GT(persisted[2], persisted[1]);
}

// It was killed between an older revision and the one that counts; the power goes when a later run has removed that too.
TEST_F(Forget, ARevisionThatAKilledRunRemovedCannotComeBackInThePlaceOfTheOneThatCounts) {
    backups(2);
    add_revision(0, 1, [](Manifest&) {});
    repository_.target->remove(object(0));
    repository_.target->end_process();
    FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "forget.removed") {
            repository_.target->power_cut();
        }
    });
    forget(keep_last(1));
    EXPECT_FALSE(repository_.target->contains(object(0)));
}

TEST_F(Forget, MarksStay) {
    backups(3);
    const std::string mark = object(0).substr(0, object(0).size() - 1) + "7";
    repository_.target->create(mark, encode_void_manifest(repository_.open().info().uuid, SessionId::random(), 7));
    const std::string lone = layout::manifest({77, 1'800'000'000, 0});
    repository_.target->create(lone, encode_void_manifest(repository_.open().info().uuid, SessionId::random(), 0));
    EXPECT_EQ(forget(keep_last(1)).plan.backups.size(), 3U);
    EXPECT_TRUE(repository_.target->contains(mark));
    EXPECT_TRUE(repository_.target->contains(lone));
    EXPECT_EQ(left(), (std::vector<int>{2}));
}

TEST_F(Forget, WhatCantBeReadStays) {
    backups(4);
    ruin(object(0));
    const ForgetResult result = forget(keep_last(1));
    EXPECT_EQ(result.plan.unreadable, 1U);
    EXPECT_EQ(result.plan.removed, 2U);
    EXPECT_TRUE(repository_.target->contains(object(0)));
    EXPECT_FALSE(result.plan.backups[0].damage.empty());
}

// It may have been pinned there.
TEST_F(Forget, ABackupWhoseLatestRevisionCantBeReadStays) {
    backups(3);
    add_revision(0, 1, [](Manifest& manifest) { manifest.pinned = true; });
    const std::string later = object(0).substr(0, object(0).size() - 1) + "1";
    ruin(later);
    EXPECT_EQ(forget(keep_last(1)).plan.removed, 1U);
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    EXPECT_EQ(status_of(named({id(0)})), ExitStatus::kRefused);
    EXPECT_NE(message_.find("repair"), std::string::npos) << message_;
    EXPECT_TRUE(repository_.target->contains(later));
}

// ---- Sessions

TEST_F(Forget, ClearsUpAfterDeadBackupsFirst) {
    backups(2);
    under_lease([&](Repository& repository, Lease& lease) {
        SessionRecord session;
        session.id = SessionId::random();
        session.manifest = {repository.next_sequence(), 1'800'000'000, 0};
        session.epoch = 1;
        session.snapshot_backend = "none";
        repository.begin_session(lease, session);
    });
    EXPECT_EQ(forget(keep_last(1)).cleared_sessions, 1U);
    EXPECT_TRUE(repository_.names("journal/").empty());
    EXPECT_EQ(repository_.names("backups/").size(), 2U);  // a backup, a mark
}

// Without its manifest the session would be taken for one that died, and its packs removed, on which later backups may rest.
TEST_F(Forget, ABackupWhoseSessionIsLeftKeepsItsManifest) {
    backups(3);
    leave_session(0, host_name());
    const auto packs = repository_.names("packs/");
    EXPECT_EQ(forget(keep_last(1)).plan.removed, 1U);
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    EXPECT_EQ(forget(named({id(0)})).plan.removed, 0U);
    EXPECT_EQ(report_.count(), 1U);
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    under_lease([](Repository& repository, Lease& lease) {
        repository.clear_sessions(lease, [](const SessionRecord&) { return SnapshotRemains::kNone; });
    });
    EXPECT_EQ(repository_.names("packs/"), packs);
}

TEST_F(Forget, ASessionThatCantBeReadKeepsItsBackupToo) {
    backups(2);
    leave_session(0, host_name());
    const std::string session = repository_.names("journal/").at(0);
    repository_.flip(session, 40);
    EXPECT_EQ(forget(keep_last(1)).plan.removed, 0U);
}

TEST_F(Forget, AFinishedSessionThatCanBeEndedHindersNothing) {
    backups(2);
    leave_session(0, "");
    EXPECT_EQ(forget(keep_last(1)).plan.removed, 1U);
    EXPECT_TRUE(repository_.names("journal/").empty());
}

// ---- Interruptions

TEST_F(Forget, AnyOperationMayFailAndTheNextRunGoesOn) {
    for (const auto kind : {test::StrictTarget::FaultKind::kBefore, test::StrictTarget::FaultKind::kAfter}) {
        for (const Op op : {Op::kRemove, Op::kSwap, Op::kLoad, Op::kList}) {
            for (std::uint64_t nth = 1;; ++nth) {
                SCOPED_TRACE("operation " + std::to_string(static_cast<int>(op)) + ", the " + std::to_string(nth) + "th");
                made_.clear();
                repository_ = MadeRepository();
                backups(4);
                add_revision(1, 1, [](Manifest&) {});
                const std::uint64_t before = repository_.target->count(op);
                repository_.target->fail(op, nth, ENOSPC, kind);
                bool failed = false;
                try {
                    forget(keep_last(2));
                } catch (const Error&) {
                    failed = true;
                }
                const bool reached = repository_.target->count(op) - before >= nth;
                repository_.target->clear_faults();
                repository_.target->remove(layout::kExclusiveLock);  // which this process may not have released
                auto there = left();
                ASSERT_GE(there.size(), 2U);
                EXPECT_EQ(std::vector<int>(there.end() - 2, there.end()), (std::vector<int>{2, 3}));
                ASSERT_TRUE(whole());
                const ForgetResult again = forget(keep_last(2));
                EXPECT_EQ(again.plan.removed, there.size() - 2);
                EXPECT_EQ(left(), (std::vector<int>{2, 3}));
                EXPECT_EQ(repository_.names("backups/").size(), 2U);
                if (!reached) {
                    EXPECT_FALSE(failed);
                    break;
                }
            }
        }
    }
}

TEST_F(Forget, RemovesNothingAfterItsLeaseWasTakenOver) {
    backups(4);
    FaultHooks hooks;
    bool done = false;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "forget.removed" && !done) {
            done = true;
            repository_.target->erase(std::string(layout::kExclusiveLock));
        }
    });
    EXPECT_EQ(status_of(keep_last(1)), ExitStatus::kLocked);
    EXPECT_EQ(left(), (std::vector<int>{1, 2, 3}));
}

TEST_F(Forget, InterruptedItStopsBetweenTwo) {
    backups(4);
    FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "forget.removed") {
            interrupt::request();
        }
    });
    EXPECT_EQ(status_of(keep_last(1)), ExitStatus::kFailed);
    interrupt::clear();
    EXPECT_EQ(left(), (std::vector<int>{1, 2, 3}));
}

TEST_F(Forget, ALaggingListDoesNoHarm) {
    backups(4);
    repository_.target->set_list_lag(1'000);
    forget(keep_last(2));
    EXPECT_EQ(forget(keep_last(2)).plan.removed, 0U);
    EXPECT_EQ(left(), (std::vector<int>{2, 3}));
}

}  // namespace
}  // namespace nodesnap
