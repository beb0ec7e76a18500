// What run_repair() heals, what it leaves, and what an interruption at each step leaves.
#include <gtest/gtest.h>

#include <cerrno>

#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap {
namespace {

using test::MadeBackup;
using test::MadeRepository;

VerifyResult verify(const MadeRepository& made) {
    Repository repository = made.open();
    VerifyOptions options;
    options.data = true;
    Progress progress;
    return run_verify(repository, options, progress);
}

// Does something with the repository open and its lease held.
template <typename Work>
auto under_lease(const MadeRepository& made, Work work) {
    Repository repository = made.open();
    LeaseOptions options;
    options.command = "test";
    Lease lease = Lease::acquire(repository.target(), repository.info().uuid, options);
    return work(repository, lease);
}

RepairResult repair(const MadeRepository& made) {
    return under_lease(made, [](Repository& repository, Lease& lease) {
        Progress progress;
        RepairResult result = run_repair(repository, lease, progress);
        lease.release();
        return result;
    });
}

// Damages a trailer of the data pack, so that a repair writes its next generation.
struct Generation {
    std::string object;
    Bytes sound;  // what it held before
};
Generation damage_a_trailer(const MadeRepository& made) {
    Generation first{made.data_pack(), {}};
    first.sound = made.target->peek(first.object);
    made.flip(first.object, made.size(first.object) - 4000);
    return first;
}

// Damages one place, expects that it is told and that nothing is lost, repairs, expects that all is whole.
void damage_and_repair(const MadeRepository& made, const std::string& object, std::uint64_t offset) {
    SCOPED_TRACE(object + " at " + std::to_string(offset));
    made.flip(object, offset);
    const VerifyResult damaged = verify(made);
    EXPECT_GT(damaged.damage_count, 0U);
    EXPECT_EQ(damaged.lost_count, 0U);
    EXPECT_TRUE(damaged.affected.empty());
    const RepairResult repaired = repair(made);
    EXPECT_EQ(repaired.repaired_count, 1U);
    EXPECT_EQ(repaired.lost_count, 0U);
    EXPECT_FALSE(verify(made).needs_repair());
    EXPECT_EQ(repair(made).repaired_count, 0U);
}

TEST(Repair, LeavesAWholeRepositoryAlone) {
    MadeRepository made;
    made.add_backup();
    const auto before = made.names("");
    const RepairResult result = repair(made);
    EXPECT_EQ(result.repaired_count, 0U);
    EXPECT_EQ(result.lost_count, 0U);
    auto after = made.names("");
    std::erase_if(after, [](const std::string& name) { return name.starts_with("locks/"); });
    auto expected = before;
    std::erase_if(expected, [](const std::string& name) { return name.starts_with("locks/"); });
    EXPECT_EQ(after, expected);
}

TEST(Repair, HealsEitherCopyOfTheDescription) {
    MadeRepository made;
    made.add_backup();
    damage_and_repair(made, "repository.json", 30);
    damage_and_repair(made, "repository.json.copy", 30);
}

TEST(Repair, RewritesAMissingDescription) {
    MadeRepository made;
    made.add_backup();
    made.target->erase("repository.json");
    EXPECT_TRUE(verify(made).needs_repair());
    EXPECT_EQ(repair(made).repaired, (std::vector<std::string>{"repository.json"}));
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, RewritesADamagedManifestAsTheNextRevision) {
    MadeRepository made;
    const Manifest manifest = made.add_backup();
    const std::string first = made.names("backups/").at(0);
    damage_and_repair(made, first, 200);
    const std::string second = made.names("backups/").at(0);
    EXPECT_EQ(made.names("backups/"), (std::vector<std::string>{first.substr(0, first.size() - 1) + "1"}));
    damage_and_repair(made, second, made.size(second) / 2 + 200);
    EXPECT_EQ(made.open().find_backup("latest").id, manifest.id);
    EXPECT_EQ(made.names("backups/"), (std::vector<std::string>{first.substr(0, first.size() - 1) + "2"}));
}

TEST(Repair, RewritesPacksAsTheNextGeneration) {
    MadeRepository made;
    made.add_backup();
    for (const bool nodes : {false, true}) {
        const auto object = [&] { return nodes ? made.node_pack() : made.data_pack(); };
        for (const std::uint64_t from_end : {4000U, 8100U}) {  // in either trailer
            damage_and_repair(made, object(), made.size(object()) - from_end);
        }
        damage_and_repair(made, object(), 20);                           // in the head
        damage_and_repair(made, object(), made.size(object()) - 12200);  // in a footer
        damage_and_repair(made, object(), made.size(object()) - 16300);
    }
    EXPECT_TRUE(made.data_pack().ends_with(".5.pack"));
    EXPECT_EQ(made.names("packs/").size(), 1U);
    EXPECT_EQ(made.names("nodes/").size(), 1U);
}

TEST(Repair, HealsEitherCopyOfANode) {
    MadeRepository made;
    made.add_backup();
    damage_and_repair(made, made.node_pack(), 4096 + 60);
    damage_and_repair(made, made.node_pack(), 8192 + 60);
}

TEST(Repair, KeepsDamagedDataAsItIs) {
    MadeRepository made;
    made.add_backup();
    made.flip(made.data_pack(), 4096 + 10);
    EXPECT_EQ(repair(made).repaired_count, 0U);  // it doesn't read data
    damage_a_trailer(made);
    const RepairResult repaired = repair(made);
    EXPECT_EQ(repaired.repaired_count, 1U);
    EXPECT_EQ(repaired.lost_count, 1U);
    EXPECT_EQ(made.names("packs/").size(), 1U);  // the same bytes are in the new one
    const VerifyResult result = verify(made);
    EXPECT_EQ(result.damage_count, 1U);
    EXPECT_EQ(result.lost_count, 1U);
    ASSERT_EQ(result.affected.size(), 1U);
    EXPECT_TRUE(result.affected[0].ends_with("data/first, bytes 0 to 65535")) << result.affected[0];
}

TEST(Repair, ReportsWhatNoCopyCanHeal) {
    MadeRepository made;
    made.add_backup();
    made.flip(made.node_pack(), 4096 + 60);
    made.flip(made.node_pack(), 8192 + 60);
    const RepairResult result = repair(made);
    EXPECT_EQ(result.repaired_count, 0U);
    EXPECT_EQ(result.lost_count, 1U);
    EXPECT_EQ(made.names("nodes/").size(), 1U);
}

TEST(Repair, ReportsAPackThatIsMissing) {
    MadeRepository made;
    made.add_backup();
    made.target->erase(made.data_pack());
    const RepairResult result = repair(made);
    ASSERT_EQ(result.lost.size(), 1U);
    EXPECT_EQ(result.lost[0].what, "it is missing, and a backup needs it");
}

TEST(Repair, KeepsAManifestThatIsLost) {
    MadeRepository made;
    made.add_backup();
    const std::string object = made.names("backups/").at(0);
    made.flip(object, 200);
    made.flip(object, made.size(object) / 2 + 200);
    EXPECT_EQ(repair(made).lost_count, 1U);
    EXPECT_EQ(made.names("backups/"), (std::vector<std::string>{object}));
}

void lose_manifest(const MadeRepository& made, const std::string& object) {
    made.flip(object, 200);
    made.flip(object, made.size(object) / 2 + 200);
}

std::vector<std::string> drop_lost(const MadeRepository& made, const std::vector<std::string>& objects) {
    return under_lease(made, [&](Repository& repository, Lease& lease) { return drop_lost_backups(repository, lease, objects); });
}

TEST(DropLost, GivesUpABackupWhoseManifestIsLostAndNothingElse) {
    MadeRepository made;
    made.add_backup();
    const Manifest kept = made.add_backup();
    const std::string object = made.names("backups/").at(0);
    const auto packs = made.names("packs/");
    lose_manifest(made, object);
    const Bytes left = made.target->peek(object);
    EXPECT_EQ(drop_lost(made, {object}), (std::vector<std::string>{object}));
    EXPECT_EQ(made.target->peek("lost/" + object), left);
    EXPECT_EQ(made.names("packs/"), packs);
    EXPECT_EQ(made.names("backups/").size(), 2U) << "its name must not be free";
    std::vector<SessionId> listed;
    made.open().for_each_backup([&](const BackupEntry& entry) { listed.push_back(entry.manifest.value().id); });
    EXPECT_EQ(listed, (std::vector<SessionId>{kept.id}));
    EXPECT_FALSE(verify(made).needs_repair());
    EXPECT_EQ(repair(made).lost_count, 0U);
    EXPECT_THROW(drop_lost(made, {object}), Error) << "it isn't there any more";
}

TEST(DropLost, RefusesWhatIsNotLost) {
    MadeRepository made;
    made.add_backup();
    made.add_backup();
    const auto objects = made.names("backups/");
    lose_manifest(made, objects.at(0));
    made.flip(objects.at(1), 200);  // the other copy is good
    const auto before = made.names("");
    const auto status = [&](const std::string& object) {
        try {
            drop_lost(made, {objects.at(0), object});  // nothing is touched for the sake of the first
        } catch (const Error& error) {
            return error.status();
        }
        return ExitStatus::kDone;
    };
    EXPECT_EQ(status(objects.at(1)), ExitStatus::kRefused);
    EXPECT_EQ(status("backups/0000000099-20240531T020000Z.0"), ExitStatus::kRefused);
    EXPECT_EQ(status("packs/00/something"), ExitStatus::kUsage);
    auto after = made.names("");
    std::erase_if(after, [](const std::string& name) { return name.starts_with("locks/"); });
    EXPECT_EQ(after, [&] {
        auto names = before;
        std::erase_if(names, [](const std::string& name) { return name.starts_with("locks/"); });
        return names;
    }());
}

TEST(DropLost, TakesAllRevisionsOfTheBackupOrNone) {
    MadeRepository made;
    Manifest manifest = made.add_backup();
    const std::string first = made.names("backups/").at(0);
    manifest.name.revision = 1;
    const std::string second = layout::manifest(manifest.name);
    made.target->create(second, encode_manifest(made.open().info().uuid, manifest));
    lose_manifest(made, second);
    EXPECT_THROW(drop_lost(made, {second}), Error) << "the revision before it is good";
    lose_manifest(made, first);
    EXPECT_EQ(drop_lost(made, {second}), (std::vector<std::string>{first, second}));
    EXPECT_FALSE(verify(made).needs_repair());
}

// The session object that a finished backup left behind mustn't take the packs along that later backups refer to, whether or not their
// manifests list them: an incremental backup's lists what it wrote itself.
class DropLostWithSession : public testing::TestWithParam<bool> {};

TEST_P(DropLostWithSession, LaterBackupsKeepThePacksThatTheyReferTo) {
    MadeRepository made;
    Repository repository = made.open();
    MadeBackup older;
    const PackId pack = older.data_pack(repository, 2);
    SessionRecord session;
    session.id = pack.session();
    session.epoch = 1;
    session.host = "another";
    session.snapshot_backend = "none";
    session.manifest = older.publish(repository).name;
    MadeBackup later;
    later.inode(3, MadeBackup::file(pack, 0, 2));
    later.name(MadeBackup::kRoot, "file", 3);
    if (GetParam()) {
        later.refers_to(pack);
    }
    later.publish(repository);
    under_lease(made, [&](Repository& opened, Lease& lease) { opened.begin_session(lease, session); });
    const std::string object = layout::manifest(session.manifest);
    lose_manifest(made, object);
    drop_lost(made, {object});
    under_lease(made, [](Repository& opened, Lease& lease) { opened.clear_sessions(lease, {}); });
    EXPECT_EQ(made.open().sessions().empty(), GetParam());
    EXPECT_EQ(verify(made).lost_count, 0U);
    EXPECT_FALSE(verify(made).needs_repair());
}

INSTANTIATE_TEST_SUITE_P(Listed, DropLostWithSession, testing::Bool());

TEST(Repair, PutsAWholeRevisionAboveADamagedOne) {
    MadeRepository made;
    const Manifest manifest = made.add_backup();
    const std::string lower = made.names("backups/").at(0);
    Manifest revised = manifest;
    revised.name.revision = 3;
    const std::string higher = layout::manifest(revised.name);
    Bytes object = encode_manifest(made.open().info().uuid, revised);
    object.at(200) ^= std::byte{1};
    object.at(object.size() / 2 + 200) ^= std::byte{1};
    made.target->poke(higher, object);
    const VerifyResult damaged = verify(made);
    EXPECT_GT(damaged.damage_count, 0U);
    EXPECT_EQ(damaged.lost_count, 0U);
    EXPECT_EQ(repair(made).repaired_count, 1U);
    revised.name.revision = 4;
    EXPECT_EQ(made.names("backups/"), (std::vector<std::string>{layout::manifest(revised.name)}));
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, LeavesTheMarkOfAnAbandonedBackup) {
    MadeRepository made;
    Manifest manifest = made.add_backup();
    manifest.name.sequence = 9;
    const std::string mark = layout::manifest(manifest.name);
    made.target->poke(mark, encode_void_manifest(made.open().info().uuid, manifest.id, 0));
    EXPECT_EQ(repair(made).repaired_count, 0U);
    EXPECT_TRUE(made.target->contains(mark));
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, FinishesWhatAnInterruptedRepairBegan) {
    MadeRepository made;
    made.add_backup();
    // As if it had stopped after it had written the next generation and revision.
    const Generation pack = damage_a_trailer(made);
    const std::string manifest = made.names("backups/").at(0);
    const Bytes old_manifest = made.target->peek(manifest);
    made.flip(manifest, 200);
    repair(made);
    made.target->poke(pack.object, pack.sound);
    made.target->poke(manifest, old_manifest);
    ASSERT_EQ(made.names("packs/").size(), 2U);
    repair(made);
    EXPECT_EQ(made.names("packs/").size(), 1U);
    EXPECT_EQ(made.names("backups/").size(), 1U);
    EXPECT_FALSE(verify(made).needs_repair());
}

// Stops the repair at the nth step.
class StopAtStep : public fault::Hooks {
public:
    explicit StopAtStep(std::function<void(const std::string&)> act) : act_(std::move(act)) { fault::install(this); }
    ~StopAtStep() override { fault::install(nullptr); }
    int on_operation(const char*) noexcept override { return 0; }
    void on_step(const char* name) noexcept override { act_(name); }

private:
    std::function<void(const std::string&)> act_;
};

TEST(Repair, RemovesNothingBeforeItsReplacementIsThere) {
    MadeRepository made;
    made.add_backup();
    damage_a_trailer(made);
    made.flip(made.node_pack(), made.size(made.node_pack()) - 4000);
    made.flip(made.names("backups/").at(0), 200);
    std::vector<std::string> steps;
    {
        const StopAtStep stop([&](const std::string& name) {
            if (name.starts_with("repair.") || name.starts_with("revision.")) {
                steps.push_back(name);
                // At each of these instants all can be read, from what is there.
                EXPECT_EQ(verify(made).lost_count, 0U) << name;
            }
        });
        repair(made);
    }
    EXPECT_EQ(steps, (std::vector<std::string>{"revision.written", "revision.removed", "repair.written", "repair.removed", "repair.written",
                                               "repair.removed"}));
}

TEST(Repair, RemovesNothingAfterItsLeaseWasTakenOver) {
    MadeRepository made;
    made.add_backup();
    const Generation pack = damage_a_trailer(made);
    {
        const StopAtStep stop([&](const std::string& name) {
            if (name == "repair.written") {
                made.target->erase(std::string(layout::kExclusiveLock));
            }
        });
        try {
            repair(made);
            FAIL() << "it went on";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kLocked);
        }
    }
    EXPECT_TRUE(made.target->contains(pack.object));
}

// ---- Bad sectors.

TEST(Repair, KeepsAGenerationWhoseDataItCouldNotRead) {
    MadeRepository made;
    made.add_backup();
    const Generation first = damage_a_trailer(made);
    made.target->spoil(first.object, 4096 + 8 * 4096);  // in the first block of the first segment
    const RepairResult result = repair(made);
    EXPECT_EQ(result.repaired_count, 1U);
    ASSERT_EQ(result.lost_count, 1U);
    EXPECT_EQ(result.lost[0].what, "segment 0: 1 of its 2 blocks are good nowhere");
    const auto generations = made.names("packs/");
    ASSERT_EQ(generations.size(), 2U);
    EXPECT_EQ(generations[0], first.object);
    EXPECT_EQ(verify(made).affected.size(), 1U);

    // Nothing changes while nothing can be read that couldn't before.
    EXPECT_EQ(repair(made).repaired_count, 0U);
    EXPECT_EQ(repair(made).lost_count, 1U);
    EXPECT_EQ(made.names("packs/"), generations);

    // It can be read again: then its data comes back, and it isn't needed any more.
    made.target->poke(first.object, first.sound);
    EXPECT_EQ(repair(made).repaired_count, 1U);
    EXPECT_EQ(made.names("packs/").size(), 1U);
    EXPECT_TRUE(made.data_pack().ends_with(".2.pack"));
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, TakesEachBlockFromTheGenerationThatHasItGood) {
    MadeRepository made;
    made.add_backup();
    const Generation first = damage_a_trailer(made);
    repair(made);
    // Both generations are there, each with a block of the same segment damaged: one by a flipped bit, one by a bad sector.
    made.target->poke(first.object, first.sound);
    made.flip(first.object, 4096 + 70'000);
    const std::string second = made.names("packs/").at(1);
    made.target->spoil(second, 4096);
    const RepairResult result = repair(made);
    EXPECT_EQ(result.repaired_count, 1U);
    EXPECT_EQ(result.lost_count, 0U);
    EXPECT_EQ(made.names("packs/").size(), 1U);
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, DoesNotRemoveAnOlderGenerationWithMoreData) {
    MadeRepository made;
    made.add_backup();
    const Generation first = damage_a_trailer(made);
    repair(made);
    made.target->poke(first.object, first.sound);
    made.flip(made.names("packs/").at(1), 4096 + 70'000);
    EXPECT_EQ(repair(made).lost_count, 0U);
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, RemovesNothingWhenWhatItWroteCannotBeReadBack) {
    MadeRepository made;
    made.add_backup();
    const Generation first = damage_a_trailer(made);
    made.target->corrupt_next_finish(4096 + 10);
    EXPECT_THROW(repair(made), Error);
    EXPECT_EQ(made.names("packs/"), (std::vector<std::string>{first.object}));
    EXPECT_EQ(verify(made).lost_count, 0U);
    EXPECT_EQ(repair(made).lost_count, 0U);
    EXPECT_FALSE(verify(made).needs_repair());
}

TEST(Repair, ReadsAroundABadSectorInEitherCopyOfAManifest) {
    for (const bool second : {false, true}) {
        MadeRepository made;
        const Manifest manifest = made.add_backup();
        const std::string object = made.names("backups/").at(0);
        made.target->spoil(object, second ? made.size(object) / 2 : 0);
        EXPECT_EQ(verify(made).lost_count, 0U);
        EXPECT_TRUE(verify(made).needs_repair());
        EXPECT_EQ(made.open().find_backup("latest").id, manifest.id);
        const RepairResult result = repair(made);
        EXPECT_EQ(result.repaired_count, 1U);
        EXPECT_EQ(result.lost_count, 0U);
        EXPECT_FALSE(verify(made).needs_repair());
    }
}

TEST(Repair, TellsAManifestThatTheDeviceLostAltogether) {
    MadeRepository made;
    made.add_backup();
    const std::string object = made.names("backups/").at(0);
    made.target->spoil(object, 0);
    made.target->spoil(object, made.size(object) / 2);
    EXPECT_EQ(repair(made).lost_count, 1U);
    EXPECT_TRUE(made.target->contains(object));
    try {
        load_manifest(*made.target, object, made.open().info().uuid, [](const Damage&) {});
        FAIL() << "it was read";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        EXPECT_EQ(error.error_number(), EIO);
    }
}

TEST(Repair, RewritesADescriptionOnABadSector) {
    for (const std::string object : {"repository.json", "repository.json.copy"}) {
        MadeRepository made;
        made.add_backup();
        made.target->spoil(object, 0);
        EXPECT_TRUE(verify(made).needs_repair());
        EXPECT_EQ(repair(made).repaired, (std::vector<std::string>{object}));
        EXPECT_FALSE(verify(made).needs_repair());
    }
}

// ---- Marks of abandoned sessions.

TEST(Repair, HealsAMarkInItsPlace) {
    for (const std::uint64_t offset : {20U, 4096U + 20U, 300U, 4096U + 300U}) {
        MadeRepository made;
        Manifest manifest = made.add_backup();
        manifest.name.sequence = 9;
        const std::string mark = layout::manifest(manifest.name);
        const Bytes sound = encode_void_manifest(made.open().info().uuid, manifest.id, 0);
        made.target->poke(mark, sound);
        damage_and_repair(made, mark, offset);
        EXPECT_EQ(made.target->peek(mark), sound);
        made.target->spoil(mark, offset);
        EXPECT_TRUE(verify(made).needs_repair());
        EXPECT_EQ(repair(made).repaired_count, 1U);
        EXPECT_EQ(made.target->peek(mark), sound);
        EXPECT_FALSE(verify(made).needs_repair());
    }
}

TEST(Repair, HealsTheManifestBelowAMark) {
    MadeRepository made;
    Manifest manifest = made.add_backup();
    const std::string object = made.names("backups/").at(0);
    manifest.name.revision = 1;
    const std::string mark = layout::manifest(manifest.name);
    made.target->poke(mark, encode_void_manifest(made.open().info().uuid, manifest.id, 1));
    made.flip(object, 200);
    EXPECT_EQ(repair(made).repaired_count, 1U);
    EXPECT_TRUE(made.target->contains(mark));
    EXPECT_FALSE(verify(made).needs_repair());
    EXPECT_EQ(made.open().find_backup("latest").id, manifest.id);
}

// However damaged, it goes on taking the name.
TEST(Repair, ADamagedMarkKeepsASleeperFromPublishing) {
    for (const bool both : {false, true}) {
        MadeRepository made;
        Manifest sleeper = made.add_backup();
        sleeper.name.sequence = 9;
        const std::string mark = layout::manifest(sleeper.name);
        made.target->poke(mark, encode_void_manifest(made.open().info().uuid, sleeper.id, 0));
        made.flip(mark, 20);
        if (both) {
            made.flip(mark, 4096 + 20);
        }
        const auto publish = [&] {
            under_lease(made, [&](Repository& repository, const Lease& lease) { repository.publish(lease, sleeper); });
        };
        EXPECT_THROW(publish(), Error);
        EXPECT_EQ(repair(made).lost_count, both ? 1U : 0U);
        EXPECT_TRUE(made.target->contains(mark));
        EXPECT_THROW(publish(), Error);
    }
}

// ---- Sessions whose backup is there, but whose session object was left behind.

TEST(Repair, HealsThePacksOfAFinishedBackupWhoseSessionWasLeft) {
    MadeRepository made;
    const Manifest manifest = made.add_backup();
    under_lease(made, [&](Repository& repository, Lease& lease) {
        SessionRecord session;
        session.id = manifest.id;
        session.manifest = manifest.name;
        session.epoch = lease.epoch();
        session.host = "host";
        repository.begin_session(lease, session);
        lease.release();
    });
    damage_and_repair(made, made.data_pack(), made.size(made.data_pack()) - 4000);
    damage_and_repair(made, made.node_pack(), 4096 + 60);
}

TEST(Repair, AFailingTargetLosesNothing) {
    using Op = test::StrictTarget::Op;
    for (const Op op : {Op::kCreate, Op::kBegin, Op::kWrite, Op::kFinish, Op::kRead, Op::kRemove}) {
        for (std::uint64_t nth = 1; nth < 100; ++nth) {
            MadeRepository made;
            made.add_backup();
            damage_a_trailer(made);
            made.flip(made.node_pack(), made.size(made.node_pack()) - 4000);
            made.flip(made.names("backups/").at(0), 200);
            made.target->fail(op, nth, ENOSPC);
            bool failed = false;
            try {
                repair(made);
            } catch (const Error&) {
                failed = true;
            }
            made.target->clear_faults();
            EXPECT_EQ(verify(made).lost_count, 0U) << static_cast<int>(op) << ", " << nth;
            repair(made);
            EXPECT_FALSE(verify(made).needs_repair()) << static_cast<int>(op) << ", " << nth;
            if (!failed) {
                break;
            }
        }
    }
}

TEST(DropLost, MarksNothingBeforeWhatIsLeftOfItIsKept) {
    MadeRepository made;
    made.add_backup();
    const std::string object = made.names("backups/").at(0);
    lose_manifest(made, object);
    const Bytes left = made.target->peek(object);
    std::vector<std::string> steps;
    {
        const StopAtStep hooks([&](const std::string& name) {
            if (name.starts_with("drop.")) {
                steps.push_back(name);
                EXPECT_EQ(made.names("lost/").size(), 1U) << name;
                EXPECT_EQ(made.target->peek(object) == left, name == "drop.kept") << name;
            }
        });
        drop_lost(made, {object});
    }
    EXPECT_EQ(steps, (std::vector<std::string>{"drop.kept", "drop.marked"}));
    // As if it had been killed between the two.
    made.target->poke(object, left);
    EXPECT_EQ(verify(made).lost_count, 1U);
    EXPECT_EQ(drop_lost(made, {object}).size(), 1U);
    EXPECT_EQ(made.target->peek("lost/" + object), left);
    EXPECT_FALSE(verify(made).needs_repair());
}

}  // namespace
}  // namespace nodesnap
