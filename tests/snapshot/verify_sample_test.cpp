// Which packs run_verify() reads when it is to read a part, what it remembers of that, and what it says has been checked.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <set>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/repository/check_record.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using std::chrono::hours;
using test::MadeBackup;
using test::MadeRepository;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kDay = 86'400;
constexpr std::int64_t kBegin = 1'700'000'000;  // seconds; runs a day or more later are in the past too

// A repository of one backup with that many packs of the same size, a file in each.
struct Packs : MadeRepository {
    std::vector<PackId> ids;
    std::uint64_t pack_bytes = 0;

    explicit Packs(std::uint32_t count) { add(count); }
    void add(std::uint32_t count) {
        Repository repository = open();
        MadeBackup backup;
        for (std::uint32_t number = 0; number < count; ++number) {
            const PackId pack = backup.data_pack(repository, 2);
            backup.inode(10 + number, MadeBackup::file(pack, 0, 2));
            backup.name(MadeBackup::kRoot, "file" + std::to_string(number), 10 + number);
            ids.push_back(pack);
        }
        backup.publish(repository);
        pack_bytes = size(name(ids[0]));
    }
    static std::string name(const PackId& pack, std::uint32_t generation = 0) {
        return layout::pack({layout::PackKind::kData, pack, generation});
    }
    VerifyOptions on_day(std::int64_t day) const {
        VerifyOptions options;
        options.data = true;
        options.workers = 2;
        options.now_ns = (kBegin + day * kDay) * kSecond;
        return options;
    }
    VerifyResult verify(const VerifyOptions& options) const {
        Repository repository = open();
        Progress progress;
        return run_verify(repository, options, progress);
    }
    VerifyResult all(std::int64_t day) const { return verify(on_day(day)); }
    VerifyResult sample(std::int64_t day, double percent) const {
        VerifyOptions options = on_day(day);
        options.sample = Sample{0, percent};
        return verify(options);
    }
    VerifyResult since(std::int64_t day, hours time) const {
        VerifyOptions options = on_day(day);
        options.since = time;
        return verify(options);
    }
    std::optional<PackCheckup> checkup(const PackId& pack) const {
        const std::string object = layout::checks(pack.bytes[0]);
        if (!target->contains(object)) {
            return std::nullopt;
        }
        const CheckRecord record = parse_check_record(target->peek(object), open().info().uuid, pack.bytes[0]);
        EXPECT_EQ(record.flaw, "");
        const PackCheckup* found = record.find(pack);
        return found == nullptr ? std::nullopt : std::optional(*found);
    }
    // The day of the last check of each pack that has one.
    std::map<PackId, std::int64_t> days() const {
        std::map<PackId, std::int64_t> days;
        for (const PackId& pack : ids) {
            if (const auto last = checkup(pack)) {
                days[pack] = (last->utc_seconds - kBegin) / kDay;
            }
        }
        return days;
    }
    std::set<PackId> checked_on(std::int64_t day) const {
        std::set<PackId> packs;
        for (const auto& [pack, last] : days()) {
            if (last == day) {
                packs.insert(pack);
            }
        }
        return packs;
    }
    void put(const PackCheckup& checkup) const {
        target->poke(layout::checks(checkup.pack.bytes[0]), encode_check_record(open().info().uuid, checkup.pack.bytes[0], {checkup}));
    }
    void damage(const PackId& pack) const { flip(name(pack), 5000); }
};

bool holds(const std::vector<std::string>& texts, const std::string& part) {
    return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

TEST(VerifySample, AllIsReadAndRememberedWithoutOne) {
    const Packs packs(7);
    const VerifyResult before = packs.verify({});  // not the data
    EXPECT_EQ(before.coverage.all.packs, 7U);
    EXPECT_EQ(before.coverage.ever.packs, 0U);
    EXPECT_FALSE(before.coverage.oldest_ns);
    EXPECT_TRUE(packs.days().empty());
    const VerifyResult result = packs.all(3);
    EXPECT_EQ(result.coverage.all.bytes, 7 * packs.pack_bytes);
    EXPECT_EQ(result.coverage.now.bytes, 7 * packs.pack_bytes);
    EXPECT_EQ(result.coverage.recent.packs, 7U);
    EXPECT_EQ(result.coverage.ever.packs, 7U);
    EXPECT_EQ(result.coverage.oldest_ns, (kBegin + 3 * kDay) * kSecond);
    EXPECT_EQ(result.coverage.not_remembered, "");
    EXPECT_EQ(packs.checked_on(3).size(), 7U);
    EXPECT_TRUE(result.information.empty());
}

TEST(VerifySample, TakesWhatWasNeverCheckedThenTheLongestAgo) {
    Packs packs(10);
    for (std::int64_t day = 0; day < 5; ++day) {
        const VerifyResult result = packs.sample(day, 20);
        EXPECT_EQ(result.coverage.now.packs, 2U);
        EXPECT_EQ(result.coverage.ever.packs, 2U * (day + 1));
        EXPECT_EQ(packs.checked_on(day).size(), 2U);
    }
    const auto second = packs.checked_on(1);
    packs.add(1);
    EXPECT_EQ(packs.sample(5, 20).coverage.now.packs, 3U);  // a fifth of 11 packs is more than two
    EXPECT_TRUE(packs.checked_on(5).contains(packs.ids.back()));
    EXPECT_EQ(packs.checked_on(0).size(), 0U);
    EXPECT_EQ(packs.sample(6, 1).coverage.now.packs, 1U);
    EXPECT_TRUE(second.contains(*packs.checked_on(6).begin()));
    EXPECT_EQ(packs.verify({}).coverage.oldest_ns.value_or(0), (kBegin + kDay) * kSecond);
}

TEST(VerifySample, IsTheSameForTheSameRecord) {
    const Packs packs(16);
    packs.sample(0, 30);
    std::map<std::string, Bytes> remembered;
    for (const std::string& name : packs.names("checks/")) {
        remembered[name] = packs.target->peek(name);
    }
    packs.sample(1, 30);
    const auto chosen = packs.checked_on(1);
    for (const std::string& name : packs.names("checks/")) {
        packs.target->erase(name);
    }
    for (const auto& [name, content] : remembered) {
        packs.target->poke(name, content);
    }
    packs.sample(1, 30);
    EXPECT_EQ(packs.checked_on(1), chosen);
    EXPECT_EQ(chosen.size(), 5U);
}

TEST(VerifySample, MayBeASize) {
    const Packs packs(10);
    VerifyOptions options = packs.on_day(0);
    options.sample = Sample{1, 0};
    EXPECT_EQ(packs.verify(options).coverage.now.packs, 1U);
    options.sample = Sample{3 * packs.pack_bytes, 0};
    EXPECT_EQ(packs.verify(options).coverage.now.packs, 3U);
    options.sample = Sample{1ULL << 50, 0};
    EXPECT_EQ(packs.verify(options).coverage.now.packs, 10U);
}

TEST(VerifySample, SinceReadsWhatWasNotCheckedWithinATime) {
    Packs packs(4);
    packs.all(0);
    packs.add(3);
    EXPECT_EQ(packs.since(29, hours(30 * 24)).coverage.now.packs, 3U);
    EXPECT_EQ(packs.since(30, hours(30 * 24)).coverage.now.packs, 0U);
    const VerifyResult result = packs.since(31, hours(30 * 24));
    EXPECT_EQ(result.coverage.now.packs, 4U);
    EXPECT_EQ(result.coverage.recent.packs, 7U);
    EXPECT_EQ(result.coverage.window, hours(30 * 24));
    EXPECT_EQ(packs.checked_on(29).size(), 3U);
}

TEST(VerifySample, WithSinceItIsAPartOfWhatIsDue) {
    Packs packs(4);
    packs.all(0);
    packs.add(6);
    VerifyOptions options = packs.on_day(10);
    options.since = hours(20 * 24);
    options.sample = Sample{0, 20};  // of all
    EXPECT_EQ(packs.verify(options).coverage.now.packs, 2U);
    options.sample = Sample{0, 100};
    EXPECT_EQ(packs.verify(options).coverage.now.packs, 4U);
    EXPECT_EQ(packs.verify(options).coverage.now.packs, 0U);
    EXPECT_EQ(packs.checked_on(0).size(), 4U);
}

TEST(VerifySample, OfOneBackupIsOfItsPacks) {
    Packs packs(3);
    packs.add(5);
    VerifyOptions options = packs.on_day(0);
    options.backup = "latest";
    const VerifyResult result = packs.verify(options);
    EXPECT_EQ(result.coverage.all.packs, 5U);
    EXPECT_EQ(packs.checked_on(0), std::set<PackId>(packs.ids.begin() + 3, packs.ids.end()));
    options.backup.clear();
    options.data = false;
    EXPECT_EQ(packs.verify(options).coverage.all.packs, 8U);
    EXPECT_EQ(packs.verify(options).coverage.ever.packs, 5U);
}

TEST(VerifySample, ADamagedPackIsNotCoveredAndAllThatIsAffectedIsTold) {
    Packs packs(5);
    packs.all(0);
    const PackId victim = packs.ids[2];
    packs.damage(victim);
    // Another backup that takes data from it.
    Repository repository = packs.open();
    MadeBackup other;
    other.refers_to(victim);
    other.inode(10, MadeBackup::file(victim, 0, 2));
    other.name(MadeBackup::kRoot, "another", 10);
    other.publish(repository);
    packs.put({victim, 0, false, kBegin - 400 * kDay});  // the longest ago: a sample takes it
    const VerifyResult result = packs.sample(1, 1);
    EXPECT_EQ(result.lost_count, 1U);
    EXPECT_EQ(result.affected_count, 2U);
    EXPECT_TRUE(holds(result.affected, "file2, bytes 0 to 65535"));
    EXPECT_TRUE(holds(result.affected, "another, bytes 0 to 65535"));
    EXPECT_EQ(result.coverage.now.packs, 0U);
    EXPECT_EQ(result.coverage.damaged.packs, 1U);
    EXPECT_EQ(result.coverage.ever.packs, 4U);
    const auto checkup = packs.checkup(victim);
    EXPECT_TRUE(checkup && checkup->damaged);
    EXPECT_EQ(packs.verify({}).coverage.damaged.packs, 1U);
    // It is read again, and told, by each sample; and when it is whole again, it counts as that.
    EXPECT_EQ(packs.sample(2, 1).lost_count, 1U);
    packs.flip(packs.name(victim), 5000);
    const VerifyResult mended = packs.sample(3, 1);
    EXPECT_FALSE(mended.needs_repair());
    EXPECT_EQ(mended.coverage.ever.packs, 5U);
}

TEST(VerifySample, DamageTakesAtMostHalfOfIt) {
    const Packs packs(20);
    for (std::size_t number = 0; number < 8; ++number) {
        packs.damage(packs.ids[number]);
    }
    packs.all(0);
    std::set<PackId> seen;
    for (std::int64_t day = 1; day <= 6; ++day) {
        const VerifyResult result = packs.sample(day, 20);  // four packs
        EXPECT_EQ(result.coverage.now.packs, 2U);
        EXPECT_EQ(result.lost_count, 2U);
        EXPECT_EQ(result.coverage.damaged.packs, 8U);
        seen.merge(packs.checked_on(day));
    }
    EXPECT_EQ(seen.size(), 20U);  // the damaged ones go round too
}

TEST(VerifySample, APackOfWhichTheDeviceGivesNotAllIsNotCovered) {
    const Packs packs(2);
    packs.target->spoil(packs.name(packs.ids[1]), 8192);
    const VerifyResult result = packs.all(0);
    EXPECT_EQ(result.lost_count, 1U);
    EXPECT_EQ(result.coverage.now.packs, 1U);
    EXPECT_TRUE(packs.checkup(packs.ids[1])->damaged);
}

TEST(VerifySample, AMissingPackIsDamagedAndInScope) {
    const Packs packs(3);
    packs.all(0);
    packs.target->erase(packs.name(packs.ids[1]));
    const VerifyResult result = packs.sample(1, 1);
    EXPECT_EQ(result.coverage.all.packs, 3U);
    EXPECT_EQ(result.coverage.damaged.packs, 1U);
    EXPECT_EQ(result.coverage.ever.packs, 2U);
}

// A prune after a forget, between the choice and the reading, is no damage; what is missing otherwise is.
TEST(VerifySample, PacksThatWentWithTheirBackupMeanwhileAreNoDamage) {
    for (const bool forgotten : {true, false}) {
        SCOPED_TRACE(forgotten);
        Packs packs(1);
        packs.add(2);
        test::FaultHooks hooks;
        hooks.on_each_step([&](const std::string& step) {
            if (step == "verify.sampling") {
                packs.target->erase(packs.name(packs.ids[1]));
                packs.target->erase(packs.name(packs.ids[2]));
                if (forgotten) {
                    packs.target->erase(packs.names("backups/").back());
                }
            }
        });
        const VerifyResult result = packs.sample(0, 100);
        EXPECT_EQ(result.coverage.now.packs, 1U);
        EXPECT_EQ(result.coverage.all.packs, forgotten ? 1U : 3U);
        EXPECT_EQ(result.coverage.damaged.packs, forgotten ? 0U : 2U);
        EXPECT_EQ(result.lost_count, forgotten ? 0U : 2U);
        EXPECT_EQ(result.affected_count, forgotten ? 0U : 2U);
        EXPECT_EQ(holds(result.information, "2 packs that were to be read were removed meanwhile"), forgotten);
    }
}

TEST(VerifySample, ANextGenerationWasNeverChecked) {
    const Packs packs(3);
    packs.all(0);
    packs.flip(packs.name(packs.ids[1]), packs.size(packs.name(packs.ids[1])) - 4000);  // a trailer
    {
        Repository repository = packs.open();
        LeaseOptions options;
        options.command = "test";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, options);
        Progress progress;
        EXPECT_EQ(run_repair(repository, lease, progress).repaired_count, 1U);
        lease.release();
    }
    const VerifyResult before = packs.verify({});
    EXPECT_EQ(before.coverage.rewritten.packs, 1U);
    EXPECT_EQ(before.coverage.ever.packs, 2U);
    EXPECT_EQ(packs.sample(1, 1).coverage.now.packs, 1U);
    EXPECT_EQ(packs.checked_on(1), std::set<PackId>{packs.ids[1]});
    EXPECT_EQ(packs.checkup(packs.ids[1])->generation, 1U);
    EXPECT_EQ(packs.verify({}).coverage.rewritten.packs, 0U);
}

TEST(VerifySample, ADamagedRecordIsNothingKnownAndWrittenAnew) {
    const Packs packs(3);
    const std::string record = layout::checks(packs.ids[1].bytes[0]);
    const std::vector<std::function<void()>> damages = {
        [&] { packs.flip(record, 3); },          [&] { packs.flip(record, 140); },
        [&] { packs.target->poke(record, {}); }, [&] { packs.target->poke(record, Bytes(5000, std::byte{7})); },
        [&] { packs.target->spoil(record, 0); },
    };
    for (std::size_t number = 0; number < damages.size(); ++number) {
        SCOPED_TRACE(number);
        packs.all(0);
        damages[number]();
        const VerifyResult before = packs.verify({});
        EXPECT_FALSE(before.needs_repair());
        EXPECT_EQ(before.coverage.ever.packs, 2U);
        EXPECT_TRUE(holds(before.information, record + " can't be used"));
        EXPECT_EQ(packs.sample(1, 1).coverage.ever.packs, 3U);
        EXPECT_EQ(packs.checked_on(1), std::set<PackId>{packs.ids[1]});
        EXPECT_TRUE(packs.verify({}).information.empty());
    }
}

TEST(VerifySample, ARecordTooLongForOneDoesNotKeepTheOthersFromBeingWritten) {
    const Packs packs(3);
    packs.target->poke(layout::checks(packs.ids[0].bytes[0]), Bytes(kCheckRecordLimit + 1));
    const VerifyResult result = packs.all(0);
    EXPECT_EQ(result.coverage.now.packs, 3U);
    EXPECT_NE(result.coverage.not_remembered, "");
    EXPECT_EQ(packs.verify({}).coverage.ever.packs, 2U);
}

TEST(VerifySample, ManyDamagedRecordsAreToldInFewWords) {
    const Packs packs(30);
    packs.all(0);
    for (const std::string& record : packs.names("checks/")) {
        packs.flip(record, 130);
    }
    const VerifyResult result = packs.sample(1, 1);
    EXPECT_EQ(result.coverage.ever.packs, 1U);
    EXPECT_EQ(result.information.size(), 5U);
    EXPECT_TRUE(holds(result.information, "26 more records of checks can't be used"));
}

TEST(VerifySample, ATimeThatIsYetToComeDoesNotCount) {
    const Packs packs(3);
    packs.all(5000);  // by a clock that was wrong
    EXPECT_EQ(packs.sample(0, 1).coverage.ever.packs, 1U);
    EXPECT_EQ(packs.since(1, hours(10 * 24)).coverage.now.packs, 2U);
    EXPECT_EQ(packs.since(2, hours(10 * 24)).coverage.now.packs, 0U);
    EXPECT_EQ(packs.checked_on(5000).size(), 0U);
    // Before 1970, and back: what is known is of use again.
    const VerifyResult early = packs.all(-30'000);
    EXPECT_EQ(early.coverage.now.packs, 3U);
    EXPECT_EQ(packs.since(3, hours(10 * 24)).coverage.now.packs, 0U);
    EXPECT_EQ(packs.verify({}).coverage.ever.packs, 3U);
}

TEST(VerifySample, PacksThatAreGoneAreForgotten) {
    Packs packs(2);
    packs.all(0);
    PackId other = packs.ids[0];
    other.bytes[15] ^= 1;
    const Bytes record =
        encode_check_record(packs.open().info().uuid, other.bytes[0],
                            other < packs.ids[0] ? std::vector<PackCheckup>{{other, 0, false, 5}, {packs.ids[0], 0, false, 5}}
                                                 : std::vector<PackCheckup>{{packs.ids[0], 0, false, 5}, {other, 0, false, 5}});
    packs.target->poke(layout::checks(other.bytes[0]), record);
    EXPECT_TRUE(packs.checkup(other));
    packs.all(1);
    EXPECT_FALSE(packs.checkup(other));
    EXPECT_TRUE(packs.checkup(packs.ids[0]));
}

TEST(VerifySample, WhereNothingCanBeWrittenThatIsSaid) {
    const Packs packs(4);
    packs.sample(0, 50);
    packs.target->set_writable(false);
    const VerifyResult result = packs.sample(1, 50);
    EXPECT_EQ(result.coverage.now.packs, 2U);
    EXPECT_EQ(result.coverage.ever.packs, 4U);
    EXPECT_NE(result.coverage.not_remembered, "");
    EXPECT_EQ(packs.checked_on(1).size(), 0U);
    EXPECT_EQ(packs.verify({}).coverage.ever.packs, 2U);
}

TEST(VerifySample, AWriteThatFailsCostsOnlyTheMemoryOfIt) {
    const Packs packs(4);
    packs.target->fail(test::StrictTarget::Op::kSwap, 2, ENOSPC);
    const VerifyResult result = packs.all(0);
    EXPECT_FALSE(result.needs_repair());
    EXPECT_EQ(result.coverage.now.packs, 4U);
    EXPECT_NE(result.coverage.not_remembered, "");
    EXPECT_EQ(packs.checked_on(0).size(), 3U);
}

TEST(VerifySample, ARunThatIsInterruptedKeepsWhatItChecked) {
    const Packs packs(60);
    VerifyOptions options = packs.on_day(0);
    options.workers = 1;
    options.remember_bytes = 2 * packs.pack_bytes;
    test::FaultHooks hooks;
    hooks.on_each_step([](const std::string& step) {
        if (step == "verify.remembered") {
            interrupt::request();
        }
    });
    EXPECT_THROW(packs.verify(options), Error);
    interrupt::clear();
    hooks.on_each_step([](const std::string&) {});
    const std::size_t kept = packs.days().size();
    EXPECT_GE(kept, 2U);
    EXPECT_LT(kept, 60U);
    EXPECT_EQ(packs.since(1, hours(5 * 24)).coverage.now.packs, 60 - kept);
}

TEST(VerifySample, TwoRunsAtOnceLoseNothingOfEachOther) {
    for (const std::int64_t other : {-1, 1}) {
        SCOPED_TRACE(other);
        const Packs packs(4);
        // When the outer run is about to write its first record, the inner one writes all of them.
        test::FaultHooks hooks;
        int records = 0;
        bool inside = false;
        hooks.on_each_step([&](const std::string& step) {
            if (step == "verify.remembering" && !inside) {
                inside = true;
                if (++records == 1) {
                    packs.all(other);
                }
                inside = false;
            }
        });
        EXPECT_EQ(packs.all(0).coverage.not_remembered, "");
        EXPECT_EQ(records, other < 0 ? 5 : 1);  // what a later run remembers needs no writing
        EXPECT_EQ(packs.checked_on(std::max<std::int64_t>(other, 0)).size(), 4U);
    }
}

// Against a model: whatever is added, damaged and mended, each run takes the oldest, and the coverage is what the records say.
TEST(VerifySample, RandomRunsKeepToTheOrder) {
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Packs packs(12);
    std::map<PackId, std::int64_t> model;  // -1: never
    for (std::int64_t day = 0; day < 25; ++day) {
        if (random() % 4 == 0) {
            packs.add(1 + random() % 3);
        }
        for (const PackId& pack : packs.ids) {
            model.try_emplace(pack, -1);
        }
        const std::size_t count = 1 + random() % 4;
        VerifyOptions options = packs.on_day(day);
        options.sample = Sample{count * packs.pack_bytes, 0};
        options.remember_bytes = 1 + random() % (3 * packs.pack_bytes);
        const Coverage coverage = packs.verify(options).coverage;
        std::vector<std::pair<std::int64_t, PackId>> order;
        order.reserve(model.size());
        for (const auto& [pack, last] : model) {
            order.emplace_back(last, pack);
        }
        std::sort(order.begin(), order.end());
        std::set<PackId> expected;
        for (std::size_t number = 0; number < count; ++number) {
            expected.insert(order[number].second);
            model[order[number].second] = day;
        }
        EXPECT_EQ(packs.checked_on(day), expected);
        EXPECT_EQ(coverage.now.packs, count);
        EXPECT_EQ(coverage.ever.packs, packs.days().size());
        EXPECT_EQ(coverage.all.packs, packs.ids.size());
    }
}

}  // namespace
}  // namespace nodesnap
