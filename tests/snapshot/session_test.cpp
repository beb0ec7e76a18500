// What a backup leaves when it fails or dies, and how the next one clears that up: on a btrfs of its own, into the strict target.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/host.h"
#include "snapshot/backup.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/loop_mount.h"
#include "tests/support/strict_target.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using Op = test::StrictTarget::Op;

class SessionTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs");
        test::run({"btrfs", "subvolume", "create", node()});
        std::ofstream(node() + "/file") << std::string(100'000, 'x');
        target_ = test::StrictTarget::make();
        Repository::create(*target_, "n1");
    }

    std::string node() const { return *mount_ / "node"; }
    Repository open() const { return Repository::open(target_, {}); }
    BackupOptions options() const {
        BackupOptions options;
        options.node_directory = node();
        options.state_directory = scratch_ / "state";
        options.scratch_directory = scratch_.path();
        options.drop_snapshot = true;
        return options;
    }
    BackupResult backup(const BackupOptions& options) {
        Repository repository = open();
        Progress progress;
        return run_backup(repository, options, progress, report_);
    }
    std::size_t snapshots() const {
        const std::string folder = *mount_ / ".nodesnap";
        return fs::exists(folder) ? static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {})) : 0;
    }
    std::size_t packs() const {
        std::size_t count = 0;
        for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
            target_->list(folder, [&](const ObjectEntry&) { ++count; });
        }
        return count;
    }
    std::size_t backups() const {
        std::size_t count = 0;
        open().for_each_backup([&](const BackupEntry&) { ++count; });
        return count;
    }
    bool warned(const std::string& part) const {
        const auto warnings = report_.warnings();
        return std::any_of(warnings.begin(), warnings.end(), [&](const auto& text) { return text.find(part) != std::string::npos; });
    }
    // A session of an earlier epoch.
    SessionRecord dead_session(const std::string& host, std::int64_t age_seconds = 0) {
        Repository repository = open();
        const Lease lease = Lease::acquire(*target_, repository.info().uuid, {"test"});
        SessionRecord session;
        session.id = SessionId::random();
        session.manifest = {repository.next_sequence(), utc_now_ns() / 1'000'000'000 - age_seconds, 0};
        session.epoch = 1;
        session.host = host;
        session.snapshot_backend = "btrfs";
        repository.begin_session(lease, session);
        return session;
    }

    std::unique_ptr<test::LoopMount> mount_;
    test::ScratchDirectory scratch_;
    std::shared_ptr<test::StrictTarget> target_;
    Report report_;
};

// A repair moves a damaged manifest to its next revision: a backup that slept just before it gave itself up finds its manifest's name free.
TEST_F(SessionTest, WhoSleptWhileItsManifestWasMovedToALaterRevisionRemovesNothing) {
    const Manifest published = backup(options()).manifest;
    const std::size_t before = packs();
    Manifest moved = published;
    moved.name.revision = 1;
    target_->create(layout::manifest(moved.name), encode_manifest(open().info().uuid, moved));
    target_->remove(layout::manifest(published.name));
    Repository repository = open();
    const Lease lease = Lease::acquire(*target_, repository.info().uuid, {"test"});
    SessionRecord session;
    session.id = published.id;
    session.manifest = published.name;
    session.epoch = published.epoch;
    session.host = host_name();
    session.snapshot_backend = "btrfs";
    EXPECT_FALSE(repository.abandon_session(lease, session, {}));
    EXPECT_EQ(packs(), before);
    EXPECT_EQ(backups(), 1U);
    EXPECT_EQ(open().find_backup("latest").id, published.id);
}

TEST_F(SessionTest, ChangeOfTheDescriptionThatWasCutOffIsCompletedByTheNextHolder) {
    for (const std::string_view object : {layout::kRepository, layout::kRepositoryCopy}) {
        Repository repository = Repository::open(target_, {});
        Lease lease = Lease::acquire(*target_, repository.info().uuid, {"test"});
        const Bytes before = target_->peek(std::string(object));
        NodeIdentity node = repository.info().node;
        node.name += "x";
        repository.set_node(lease, node);
        target_->poke(std::string(object), before);
        repository.refresh(lease);
        EXPECT_EQ(repository.info().node.name, node.name);
        lease.release();
        EXPECT_EQ(target_->peek(std::string(layout::kRepository)), target_->peek(std::string(layout::kRepositoryCopy)));
        std::vector<Damage> damages;
        EXPECT_EQ(Repository::open(target_, [&](const Damage& damage) { damages.push_back(damage); }).info().node.name, node.name);
        EXPECT_TRUE(damages.empty());
    }
}

TEST_F(SessionTest, FailedBackupRemovesItsSnapshotBeforeTheSessionThatKnowsOfIt) {
    test::FaultHooks hooks;
    std::vector<std::string> order;
    hooks.on_each_step([&](const std::string& step) {
        if (step.starts_with("session.")) {
            order.push_back(step + " snapshots " + std::to_string(snapshots()) + " packs " + std::to_string(packs()) + " sessions " +
                            std::to_string(open().sessions().size()));
        }
        if (step == "backup.before-publish") {
            target_->fail(Op::kCreate, 1, ENOSPC);
        }
    });
    EXPECT_THROW(backup(options()), Error);
    const std::vector<std::string> wanted = {
        "session.begun snapshots 0 packs 0 sessions 1",         "session.begun snapshots 1 packs 0 sessions 1",
        "session.void-created snapshots 1 packs 2 sessions 1",  "session.condemned snapshots 1 packs 2 sessions 1",
        "session.packs-removed snapshots 1 packs 0 sessions 1", "session.snapshot-removed snapshots 0 packs 0 sessions 1",
        "session.cleared snapshots 0 packs 0 sessions 0"};
    EXPECT_EQ(order, wanted);
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(SessionTest, SnapshotThatCannotBeRemovedIsToldAndRemembered) {
    test::FaultHooks hooks;
    hooks.fail_nth(1, EIO, true, "delete_subvolume");
    target_->fail(Op::kFinish, 1, EIO);
    EXPECT_THROW(backup(options()), Error);
    EXPECT_EQ(snapshots(), 1U);
    EXPECT_EQ(packs(), 0U);
    const auto left = open().sessions();
    ASSERT_EQ(left.size(), 1U);
    EXPECT_TRUE(warned(left[0].snapshot_path)) << "the warning doesn't say what is left";

    // The next one goes on although it can't remove it either, nor its own.
    const auto result = backup(options());
    EXPECT_EQ(result.cleared_sessions, 0U);
    EXPECT_EQ(backups(), 1U);
    EXPECT_EQ(snapshots(), 2U);
    EXPECT_EQ(open().sessions().size(), 2U);
    EXPECT_TRUE(warned("stays until the next backup tries again"));

    hooks.stop_failing();
    EXPECT_EQ(backup(options()).cleared_sessions, 2U);
    EXPECT_EQ(backups(), 2U);
    EXPECT_EQ(snapshots(), 0U);
    EXPECT_TRUE(open().sessions().empty());
}

TEST_F(SessionTest, SnapshotThatIsToBeKeptIsKeptWhenTheManifestWasVisibleAfterAll) {
    test::FaultHooks hooks;
    bool failed = false;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "backup.before-publish" && !failed) {
            failed = true;
            target_->fail(Op::kCreate, 1, EIO, test::StrictTarget::FaultKind::kAfter);
        }
    });
    BackupOptions keeping = options();
    keeping.drop_snapshot = false;
    keeping.keep_snapshot = true;
    EXPECT_THROW(backup(keeping), Error);
    EXPECT_EQ(backups(), 1U);
    EXPECT_EQ(snapshots(), 1U);
    EXPECT_EQ(backup(options()).cleared_sessions, 0U);
    EXPECT_EQ(snapshots(), 1U);
}

// Each operation in turn, once and for good. What is left then is told or gone, and the next backup clears it up.
TEST_F(SessionTest, FailingTheNthOperationLeavesNothingForgotten) {
    for (const bool for_good : {false, true}) {
        std::uint64_t nth = 1;
        for (std::uint64_t injected = 1; injected != 0; nth += for_good ? 3 : 1) {
            {
                test::FaultHooks hooks;
                hooks.fail_nth(nth, EIO, for_good);
                try {
                    backup(options());
                } catch (const Error&) {
                }
                injected = hooks.injected();
            }
            ASSERT_LE(snapshots(), open().sessions().size()) << "a snapshot is forgotten at point " << nth;
            if (nth % 8 == 0 || injected == 0) {
                const std::size_t before = backups();
                ASSERT_NO_THROW(backup(options())) << "at point " << nth;
                ASSERT_EQ(backups(), before + 1);
                ASSERT_EQ(snapshots(), 0U) << "at point " << nth;
                ASSERT_TRUE(open().sessions().empty()) << "at point " << nth;
            }
        }
        std::cout << "points" << (for_good ? ", for good: " : ": ") << nth << '\n';
        EXPECT_GT(nth, 50U);
    }
}

TEST_F(SessionTest, SnapshotOfAnotherHostIsRememberedForIt) {
    // Neither has noted a path: it may have died between the snapshot and the note.
    const SessionRecord recent = dead_session("another-host");
    dead_session("another-host", 31 * 24 * 3600);
    EXPECT_EQ(backup(options()).cleared_sessions, 1U);
    const auto left = open().sessions();
    ASSERT_EQ(left.size(), 1U);
    EXPECT_EQ(left[0].id, recent.id);
    EXPECT_TRUE(target_->contains(layout::manifest(recent.manifest))) << "it could still publish";
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(SessionTest, SnapshotThatTheDeadBackupDidNotNoteIsFoundByItsName) {
    const SessionRecord dead = dead_session(host_name());
    const auto backend = choose_backend(node(), ExcludeRules(), {});
    backend->create(dead.id.hex() + "-" + open().info().uuid.text().substr(0, 8), true)->keep();
    backend->create("an-operators", false)->keep();
    EXPECT_EQ(backup(options()).cleared_sessions, 1U);
    EXPECT_EQ(snapshots(), 1U);
    EXPECT_TRUE(open().sessions().empty());
}

TEST_F(SessionTest, WithoutARemoverTheSessionStaysForItsSnapshot) {
    const SessionRecord dead = dead_session(host_name());
    Repository repository = open();
    const Lease lease = Lease::acquire(*target_, repository.info().uuid, {"repair"});
    EXPECT_EQ(repository.clear_sessions(lease, {}), 0U);
    EXPECT_EQ(repository.sessions().size(), 1U);
    EXPECT_TRUE(target_->contains(layout::manifest(dead.manifest)));
}

}  // namespace
}  // namespace nodesnap
