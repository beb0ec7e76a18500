// Trimming the snapshots of a real node directory on btrfs, at whatever time the test says it is.
#include "snapshot/trim.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "platform/btrfs.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::nanoseconds;
using Names = std::vector<std::string>;

std::string session(char digit) {
    return std::string(32, digit);
}

class TrimTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs");
        btrfs::create_subvolume(open_path(mount_->path(), O_RDONLY).get(), "node");
        backend_ = choose();
    }
    std::unique_ptr<SnapshotBackend> choose() const {
        return choose_backend(*mount_ / "node", ExcludeRules(std::vector<std::string>{}), {});
    }
    std::unique_ptr<Snapshot> use(const std::string& name, bool temporary = true) { return backend_->create(name, temporary); }
    void keep(const std::string& name, bool temporary = true) { use(name, temporary)->keep(); }
    void write(const std::string& name) { write_file_durably(*mount_ / ("node/" + name), std::string(1 << 20, 'x')); }
    void remove(const std::string& name) {
        fs::remove(*mount_ / ("node/" + name));
        sync_file_system(open_path(*mount_ / "node", O_RDONLY).get(), "node");
    }
    // It alone has a file.
    void keep_holding(const std::string& name) {
        write(name);
        keep(name);
        remove(name);
    }
    std::int64_t created(const std::string& name) const {
        for (const SnapshotEntry& entry : backend_->list()) {
            if (entry.name == name) {
                return entry.created_ns;
            }
        }
        throw Error::failed("no snapshot " + name);
    }
    Names names() const {
        Names found;
        for (const SnapshotEntry& entry : backend_->list()) {
            found.push_back(entry.name);
        }
        return found;
    }
    TrimResult trim(TrimOptions options) {
        if (options.now_ns == 0) {
            options.now_ns = created(names().back()) + 1;
        }
        const FreeSpaceProbe probe = [this] { return FreeSpace{free_.at(std::min(probed_++, free_.size() - 1)), 1000}; };
        return trim_snapshots(
            *choose(), options, probe,
            [this](const DroppedSnapshot& dropped, const FreeSpace&) {
                told_.push_back(dropped.snapshot.entry.name + " " + dropped.reason);
            },
            report_);
    }

    const std::string a1_ = session('a') + "-11111111";
    const std::string b1_ = session('b') + "-11111111";
    const std::string a2_ = session('a') + "-22222222";
    const std::string a3_ = session('a') + "-33333333";
    std::unique_ptr<test::LoopMount> mount_;
    std::unique_ptr<SnapshotBackend> backend_;
    const std::vector<KnownRepository> known_{{"11111111", {}}, {"22222222", {}}, {"33333333", {}}};
    std::vector<std::uint64_t> free_{1000};  // what each look finds
    std::size_t probed_ = 0;
    Names told_;
    Report report_;
};

TEST_F(TrimTest, SaysWhatEachSnapshotIs) {
    keep("before-upgrade", false);
    keep(a1_);
    keep(a2_);
    keep(b1_);
    keep("odd");
    std::vector<std::pair<SnapshotRole, std::string>> roles;
    for (const ClassifiedSnapshot& snapshot : classify(backend_->list())) {
        roles.emplace_back(snapshot.role, snapshot.repository);
    }
    const std::vector<std::pair<SnapshotRole, std::string>> expected = {{SnapshotRole::kOperators, ""},
                                                                        {SnapshotRole::kParent, "11111111"},
                                                                        {SnapshotRole::kParent, "22222222"},
                                                                        {SnapshotRole::kUnfinished, "11111111"},
                                                                        {SnapshotRole::kUnknown, ""}};
    EXPECT_EQ(roles, expected);
}

// Of a backup that was killed before it had stored anything.
TEST_F(TrimTest, WhatCannotBeGoneOnWithGoesBeforeTheParent) {
    keep(a1_);
    const SnapshotProof proof_of_b1 = [&] {
        const auto snapshot = use(b1_);
        snapshot->keep();
        return snapshot->proof();
    }();
    const std::vector<KnownRepository> known{{"11111111", {}, {{a1_}}}};
    const auto classified = classify(backend_->list(), known);
    EXPECT_EQ(classified[0].role, SnapshotRole::kParent);
    EXPECT_EQ(classified[1].role, SnapshotRole::kLeft);
    EXPECT_TRUE(classified[1].certain);
    {
        const auto running = choose()->find(b1_, proof_of_b1);
        ASSERT_TRUE(running);
        EXPECT_NE(classify(backend_->list(), known)[1].role, SnapshotRole::kLeft) << "the backup runs";
    }
    const TrimResult result = trim({{}, {}, 1, false, 0, known});
    EXPECT_EQ(told_, Names{b1_ + " count"});
    EXPECT_EQ(names(), Names{a1_});
    EXPECT_NE(describe(result.dropped.at(0), 1000, false).find("it costs nothing"), std::string::npos);
}

TEST_F(TrimTest, DropsWhatIsOlderThanTheBound) {
    keep(a1_);
    keep("mine", false);
    keep(a2_);
    const std::int64_t now = created(a1_) + nanoseconds(hours(2)).count();
    EXPECT_TRUE(trim({{}, hours(2), {}, false, now, known_}).dropped.empty());
    EXPECT_TRUE(trim({{}, hours(2), {}, false, created(a1_) - 5, known_}).dropped.empty()) << "a clock that was set back";
    EXPECT_TRUE(trim({{}, hours(2), {}, false, now + 1, {}}).dropped.empty()) << "it may be that of an unfinished backup";
    const TrimResult result = trim({{}, hours(2), {}, false, now + 1, known_});
    ASSERT_EQ(result.dropped.size(), 1U);
    EXPECT_EQ(result.dropped[0].age, nanoseconds(hours(2)) + nanoseconds(1));
    EXPECT_EQ(told_, Names{a1_ + " age"});
    EXPECT_EQ(names(), (Names{"mine", a2_}));
    trim({{}, hours(2), {}, false, now + nanoseconds(hours(1000)).count()});
    EXPECT_EQ(names(), Names{"mine"});
}

TEST_F(TrimTest, BoundsTheNumberOverAllRepositories) {
    keep(a1_);
    keep("mine", false);
    keep(a2_);
    keep(a3_);
    EXPECT_TRUE(trim({{}, {}, 3, false, 0, known_}).dropped.empty());
    EXPECT_TRUE(trim({{}, {}, 1, false, 0, {}}).dropped.empty()) << "each may be that of an unfinished backup";
    trim({{}, {}, 1, false, 0, known_});
    EXPECT_EQ(told_, (Names{a1_ + " count", a2_ + " count"}));
    EXPECT_EQ(names(), (Names{"mine", a3_}));
    EXPECT_EQ(report_.count(), 0U);
}

TEST_F(TrimTest, DropsForSpaceUntilThereIsEnough) {
    keep_holding(a1_);
    keep_holding(a2_);
    keep_holding(a3_);
    free_ = {10, 20, 30, 40};
    const TrimResult result = trim({30, {}, {}, false, 0});
    EXPECT_EQ(told_, (Names{a1_ + " free", a2_ + " free"}));
    EXPECT_TRUE(result.enough);
    EXPECT_EQ(result.free_bytes, 30U);
    EXPECT_EQ(names(), Names{a3_});
}

TEST_F(TrimTest, AnUnfinishedBackupsSnapshotGoesLastWithAWarning) {
    keep_holding(a1_);
    keep_holding(b1_);
    keep_holding(a2_);
    free_ = {10, 20, 30, 40};
    EXPECT_TRUE(trim({30, {}, {}, false, 0}).enough);
    EXPECT_EQ(names(), Names{b1_});
    // Alone it looks like a parent.
    keep_holding(session('c') + "-11111111");
    probed_ = 0;
    free_ = {10};
    EXPECT_FALSE(trim({30, {}, {}, false, 0}).enough);
    EXPECT_TRUE(names().empty());
    ASSERT_EQ(report_.count(), 1U);
    EXPECT_NE(report_.warnings()[0].find("unfinished backup"), std::string::npos);
}

TEST_F(TrimTest, WhatTheRepositoryCallsUnfinishedStaysUntilSpaceIsWantedOrItCannotBeGoneOnWith) {
    keep_holding(b1_);
    keep_holding(a1_);
    const std::vector<KnownRepository> known{{"11111111", {b1_}}};
    const std::int64_t now = created(a1_) + nanoseconds(hours(100)).count();
    trim({{}, hours(2), 0, false, now, known});
    EXPECT_EQ(told_, Names{a1_ + " age"}) << "though it is newer";
    EXPECT_EQ(report_.count(), 0U);
    free_ = {10, 30};
    probed_ = 0;
    EXPECT_TRUE(trim({20, {}, {}, true, now, known}).dropped.size() == 1);
    ASSERT_EQ(report_.count(), 1U);
    EXPECT_NE(report_.warnings()[0].find(b1_ + " is that of an unfinished backup"), std::string::npos) << report_.warnings()[0];
    free_ = {1000};
    EXPECT_TRUE(trim({{}, hours(2), {}, false, created(b1_) + nanoseconds(hours(30 * 24)).count(), known}).dropped.empty());
    EXPECT_EQ(trim({{}, hours(2), {}, false, created(b1_) + nanoseconds(hours(30 * 24)).count() + 1, known}).dropped.size(), 1U);
}

TEST_F(TrimTest, ADryRunCountsWhatIsHeldAndDropsNothing) {
    write("file");
    keep(a1_);
    remove("file");
    keep(a2_);
    free_ = {1000};
    const TrimResult result = trim({1 << 20, {}, {}, true, 0});
    ASSERT_EQ(result.dropped.size(), 1U);
    EXPECT_EQ(result.dropped[0].held_bytes, 1U << 20);
    EXPECT_EQ(result.free_bytes, 1000U + (1 << 20));
    EXPECT_TRUE(result.enough);
    EXPECT_EQ(names(), (Names{a1_, a2_}));
}

TEST_F(TrimTest, WhatHoldsNothingIsNotDroppedForSpace) {
    keep_holding(a1_);
    keep(a2_);
    keep(a3_);
    free_ = {10, 20};
    for (const bool dry_run : {true, false}) {
        probed_ = 0;
        told_.clear();
        const TrimResult result = trim({std::uint64_t{1} << 40, {}, {}, dry_run, 0});
        EXPECT_EQ(told_, Names{a1_ + " free"});
        EXPECT_FALSE(result.enough);
        ASSERT_EQ(result.useless.size(), 2U);
        EXPECT_EQ(result.useless[0].entry.name, a2_);
    }
    EXPECT_EQ(names(), (Names{a2_, a3_}));
    EXPECT_EQ(trim({std::uint64_t{1} << 40, {}, 1, false, 0, known_}).dropped.size(), 1U) << "for their number it is";
}

TEST_F(TrimTest, WhereNothingIsFreeADryRunSaysThatItCannotTellHowMany) {
    keep_holding(a1_);
    keep(a2_);
    keep(a3_);
    free_ = {0};
    const TrimResult dry = trim({std::uint64_t{1} << 40, {}, {}, true, 0});
    EXPECT_EQ(told_, (Names{a1_ + " free", a2_ + " free", a3_ + " free"}));
    EXPECT_TRUE(dry.useless.empty());
    EXPECT_FALSE(dry.free_known);
    ASSERT_EQ(dry.dropped.size(), 3U);
    EXPECT_FALSE(dry.dropped[0].only_if_needed);
    EXPECT_TRUE(dry.dropped[1].only_if_needed);
    EXPECT_NE(describe(dry.dropped[1], 1000, true).find("would drop, if that isn't enough, the"), std::string::npos);
    // The first gives so much space back as nobody could foresee.
    probed_ = 0;
    told_.clear();
    free_ = {0, std::uint64_t{1} << 41};
    const TrimResult done = trim({std::uint64_t{1} << 40, {}, {}, false, 0});
    EXPECT_EQ(told_, Names{a1_ + " free"});
    EXPECT_TRUE(done.free_known);
    EXPECT_TRUE(done.enough);
}

TEST_F(TrimTest, ADryRunThatFindsNothingFreeAndNothingToDropKnowsWhatIsFree) {
    keep("mine", false);
    free_ = {0};
    const TrimResult dry = trim({std::uint64_t{1} << 40, {}, {}, true, 0});
    EXPECT_TRUE(dry.free_known);
    EXPECT_FALSE(dry.enough);
    EXPECT_EQ(dry.free_bytes, 0U);
}

TEST_F(TrimTest, WhatTwoHoldTogetherComesFreeWithBoth) {
    write("file");
    keep(a1_);
    keep(a2_);
    remove("file");
    keep(a3_);
    free_ = {10, 10, 20};
    for (const bool dry_run : {true, false}) {
        probed_ = 0;
        told_.clear();
        const TrimResult result = trim({std::uint64_t{1} << 40, {}, {}, dry_run, 0});
        EXPECT_EQ(told_, (Names{a1_ + " free", a2_ + " free"}));
        ASSERT_EQ(result.dropped.size(), 2U);
        EXPECT_EQ(result.dropped[1].held_bytes, dry_run ? 0U : 1U << 20);
    }
    EXPECT_EQ(names(), Names{a3_});
}

TEST_F(TrimTest, WhatOneThatStaysHoldsTooDoesNotComeFree) {
    write("file");
    keep("mine", false);
    keep(a1_);
    auto used = use(a2_);
    remove("file");
    keep(a3_);
    free_ = {10};
    EXPECT_TRUE(trim({20, {}, {}, false, 0}).dropped.empty());
    used.reset();
    EXPECT_EQ(names(), (Names{"mine", a1_, a3_}));
}

TEST_F(TrimTest, WhatOnlyFilesOfOneShareComesFreeWithIt) {
    write("file");
    write("second");
    {
        const auto from = open_path(*mount_ / "node/file", O_RDONLY);
        const auto to = open_path(*mount_ / "node/second", O_RDWR);
        ASSERT_EQ(entry::clone_file(from.get(), to.get()), 0);
    }
    sync_file_system(open_path(*mount_ / "node", O_RDONLY).get(), "node");
    keep(a1_);
    remove("file");
    remove("second");
    free_ = {10, 20};
    EXPECT_EQ(trim({20, {}, {}, false, 0}).dropped.size(), 1U);
}

TEST_F(TrimTest, WhereNothingIsFreeItMayBeTheTreesThatAreFull) {
    keep(a1_);
    free_ = {0, 20};
    EXPECT_EQ(trim({20, {}, {}, false, 0}).dropped.size(), 1U);
}

TEST_F(TrimTest, WhatIsInUseStays) {
    keep(a1_);
    const SnapshotProof proof = [&] {
        auto snapshot = use(a2_);
        snapshot->keep();
        return snapshot->proof();
    }();
    {
        const auto used = backend_->find(a2_, proof);
        ASSERT_TRUE(used);
        const auto also_used = choose()->find(a2_, proof);
        EXPECT_TRUE(also_used) << "two backups can use one";
        const TrimResult result = trim({{}, {}, 0, false, 0, known_});
        ASSERT_EQ(result.in_use.size(), 1U);
        EXPECT_EQ(result.in_use[0].entry.name, a2_);
        EXPECT_EQ(names(), Names{a2_});
        EXPECT_TRUE(backend_->list()[0].in_use);
        EXPECT_FALSE(choose()->drop(SnapshotEntry{a2_, "", 0, true}));  // without a look before
        try {
            backend_->remove(a2_);
            ADD_FAILURE() << "removed";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kRefused);
            EXPECT_NE(error.message().find("in use by a running backup"), std::string::npos) << error.message();
        }
    }
    EXPECT_FALSE(backend_->list()[0].in_use);
    EXPECT_EQ(trim({{}, {}, 0, false, 0, known_}).dropped.size(), 1U);
    EXPECT_EQ(backend_->find(a2_, proof), nullptr);
}

TEST_F(TrimTest, ANewOneIsInUseFromTheBeginning) {
    const auto used = use(a1_);
    EXPECT_TRUE(trim({{}, {}, 0, false, 0, known_}).dropped.empty());
    EXPECT_EQ(names(), Names{a1_});
}

TEST(TrimTextTest, SaysWhatAnUnfinishedOneCosts) {
    DroppedSnapshot dropped{
        {SnapshotEntry{"n", "p", 0, true}, SnapshotRole::kUnfinished, "0a1b2c3d", true, true}, hours(50), 3u << 30, "free"};
    EXPECT_EQ(
        describe(dropped, std::uint64_t{40} << 30, true),
        "would drop the snapshot of an unfinished backup into repository 0a1b2c3d, 2d 02h old, which holds about 3.0 GiB: that backup "
        "can't be gone on with, and what it has read is read again; the next one reads the whole node (up to about 40.0 GiB of data) "
        "and compares, and stores only what differs");
}

TEST(TrimTextTest, SaysWhatItCosts) {
    DroppedSnapshot dropped{{SnapshotEntry{"n", "p", 0, true}, SnapshotRole::kParent, "0a1b2c3d"}, hours(50), 3u << 30, "free"};
    EXPECT_EQ(describe(dropped, std::uint64_t{40} << 30, false),
              "dropped the parent snapshot of repository 0a1b2c3d, 2d 02h old, which held about 3.0 GiB: the next backup into that "
              "repository reads the whole node (up to about 40.0 GiB of data) and compares, and stores only what differs");
}

}  // namespace
}  // namespace nodesnap
