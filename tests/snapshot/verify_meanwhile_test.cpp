// What run_verify() says of backups and packs that a forget, a prune or a merge takes away while it runs, and of packs that no backup but
// a later one needs.
#include <gtest/gtest.h>

#include <algorithm>

#include "platform/error.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using test::MadeBackup;
using test::MadeRepository;

VerifyResult verify(const MadeRepository& made, const std::string& backup = "") {
    Repository repository = made.open();
    VerifyOptions options;
    options.data = true;
    options.workers = 2;
    options.backup = backup;
    Progress progress;
    return run_verify(repository, options, progress);
}

bool holds(const std::vector<std::string>& texts, const std::string& part) {
    return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

void erase_packs_of(const MadeRepository& made, const Manifest& backup) {
    for (const std::string prefix : {"packs/", "nodes/"}) {
        for (const std::string& name : made.names(prefix)) {
            if (layout::parse_pack(name)->id.session() == backup.id) {
                made.target->erase(name);
            }
        }
    }
}

// The second of two backups goes at the step, with its packs; or its packs alone.
struct Going {
    MadeRepository made;
    Manifest first = made.add_backup();
    Manifest second = made.add_backup();

    VerifyResult run(const std::string& at, std::uint64_t nth, bool forgotten, const std::string& backup = "") {
        test::FaultHooks hooks;
        hooks.on_each_step([&](const std::string& step) {
            if (step == at && hooks.steps(step) == nth) {
                if (forgotten) {
                    made.target->erase(layout::manifest(second.name));
                }
                erase_packs_of(made, second);
            }
        });
        return verify(made, backup);
    }
};

TEST(VerifyMeanwhile, PacksThatWentWithTheirBackupAreNoDamage) {
    for (const bool forgotten : {true, false}) {
        SCOPED_TRACE(forgotten);
        Going going;
        const VerifyResult result = going.run("verify.trees-checked", 1, forgotten);
        EXPECT_EQ(result.lost_count, forgotten ? 0U : 2U);
        EXPECT_EQ(result.affected_count == 0, forgotten);
        EXPECT_EQ(holds(result.information, "2 packs that were to be read were removed meanwhile"), forgotten);
        EXPECT_EQ(result.coverage.all.packs, forgotten ? 1U : 2U);
        EXPECT_EQ(result.coverage.now.packs, 1U);
    }
}

TEST(VerifyMeanwhile, ABackupThatWentWhileItWasCheckedIsNoDamage) {
    for (const bool forgotten : {true, false}) {
        SCOPED_TRACE(forgotten);
        Going going;
        const VerifyResult result = going.run("verify.backup-listed", 2, forgotten);
        EXPECT_EQ(result.lost_count == 0, forgotten);
        EXPECT_EQ(result.affected_count == 0, forgotten);
        EXPECT_EQ(result.backups, forgotten ? 1U : 2U);
        EXPECT_EQ(holds(result.information, "1 backups were forgotten"), forgotten);
    }
}

TEST(VerifyMeanwhile, TheOneBackupThatIsVerifiedAndWentIsNotCalledWhole) {
    Going going;
    EXPECT_THROW(going.run("verify.backup-listed", 1, true, going.second.id.hex()), Error);
}

// As after a merge: the next revision is there before the first one and what only it needs go.
TEST(VerifyMeanwhile, ARevisionThatWasSupersededIsCheckedAsTheNextOne) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    const Manifest second = made.add_backup();
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "verify.backup-listed" && hooks.steps(step) == 1) {
            Manifest next = second;
            next.id = first.id;
            next.name = first.name;
            ++next.name.revision;
            Repository repository = made.open();
            Lease lease = Lease::acquire(repository.target(), repository.info().uuid, LeaseOptions{});
            repository.publish(lease, next);
            lease.release();
            made.target->erase(layout::manifest(first.name));
            erase_packs_of(made, first);
        }
    });
    const VerifyResult result = verify(made);
    EXPECT_EQ(result.lost_count, 0U);
    EXPECT_EQ(result.backups, 2U);
    EXPECT_FALSE(holds(result.information, "forgotten while"));
    EXPECT_TRUE(holds(result.information, "2 packs that were to be read were removed meanwhile"));
}

// The backup that wrote them was forgotten, and the later one's tree leads to them.
TEST(VerifyMeanwhile, MetadataThatOnlyALaterBackupNeedsIsChecked) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    Repository repository = made.open();
    MadeBackup later;
    later.publish(repository, [&](NodeWriter&) { return first.tree; });
    made.target->erase(layout::manifest(first.name));
    const VerifyResult whole = verify(made);
    EXPECT_TRUE(whole.damages.empty());
    EXPECT_FALSE(holds(whole.information, "belong to no backup"));
    EXPECT_EQ(whole.nodes, 1U);

    const std::string pack = made.node_pack();
    const std::uint64_t second_copy =
        PackReader::open(*made.target, repository.info().uuid, layout::PackKind::kNodes, layout::parse_pack(pack)->id, [](const Damage&) {})
            ->index()
            .segment(0)
            .second_offset;
    made.flip(pack, second_copy + 10);
    const VerifyResult damaged = verify(made);
    EXPECT_EQ(damaged.damage_count, 1U);
    EXPECT_EQ(damaged.lost_count, 0U);
}

}  // namespace
}  // namespace nodesnap
