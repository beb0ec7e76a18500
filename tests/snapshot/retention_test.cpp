// The retention policy: tables of backups, and what each rule keeps of them.
#include "snapshot/retention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "io/units.h"
#include "platform/clock.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kHourNs = 3600LL * 1'000'000'000;
constexpr std::int64_t kDayNs = 24 * kHourNs;
const std::int64_t kFarFuture = parse_time("2200-01-01");

// Backups in the order in which they were made.
class Made {
public:
    Made& at(const std::string& time) { return at_ns(parse_time(time)); }
    Made& at_ns(std::int64_t utc_ns) {
        RetentionBackup backup;
        backup.sequence = backups.size() + 1;
        backup.utc_ns = utc_ns;
        backups.push_back(std::move(backup));
        return *this;
    }
    Made& incomplete() {
        backups.back().good = false;
        return *this;
    }
    Made& unreadable() {
        backups.back().readable = backups.back().good = false;
        return *this;
    }
    Made& pinned() {
        backups.back().pinned = true;
        return *this;
    }
    Made& tagged(const std::vector<std::string>& tags) {
        backups.back().tags = tags;
        return *this;
    }
    // Sequence numbers of what stays.
    std::vector<unsigned> kept(const RetentionRules& rules, std::int64_t now_ns = kFarFuture) const {
        std::vector<unsigned> numbers;
        const auto verdicts = apply_retention(rules, backups, now_ns);
        for (std::size_t i = 0; i < backups.size(); ++i) {
            if (!verdicts[i].empty()) {
                numbers.push_back(static_cast<unsigned>(backups[i].sequence));
            }
        }
        return numbers;
    }
    std::vector<std::string> why(unsigned sequence, const RetentionRules& rules) const {
        std::vector<std::string> reasons;
        const auto verdicts = apply_retention(rules, backups, kFarFuture);
        for (const KeepReason& reason : verdicts.at(sequence - 1)) {
            reasons.push_back(describe(reason, rules));
        }
        return reasons;
    }

    std::vector<RetentionBackup> backups;
};

using Numbers = std::vector<unsigned>;
using Texts = std::vector<std::string>;

RetentionRules rules(void (*set)(RetentionRules&)) {
    RetentionRules rules;
    set(rules);
    return rules;
}

RetentionRules counted(unsigned RetentionRules::*rule, unsigned count) {
    RetentionRules rules;
    rules.*rule = count;
    return rules;
}

RetentionRules within(std::int64_t nanoseconds) {
    RetentionRules rules;
    rules.within = std::chrono::nanoseconds(nanoseconds);
    return rules;
}

TEST(Retention, KeepsTheNewest) {
    Made made;
    made.at("2024-05-01").at("2024-05-02").at("2024-05-03");
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{2, 3}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 3)), (Numbers{1, 2, 3}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 1'000'000)), (Numbers{1, 2, 3}));
    EXPECT_EQ(made.why(2, counted(&RetentionRules::last, 2)), (Texts{"last 2 of 2"}));
}

TEST(Retention, OfNothingKeepsNothing) {
    EXPECT_TRUE(apply_retention(counted(&RetentionRules::last, 2), {}, kFarFuture).empty());
    EXPECT_FALSE(newest_of({}));
}

TEST(Retention, KnowsWhetherThereIsARule) {
    EXPECT_TRUE(RetentionRules{}.empty());
    for (unsigned RetentionRules::*rule : {&RetentionRules::last, &RetentionRules::hourly, &RetentionRules::daily, &RetentionRules::weekly,
                                           &RetentionRules::monthly, &RetentionRules::yearly}) {
        EXPECT_FALSE(counted(rule, 1).empty());
    }
    EXPECT_FALSE(within(0).empty());
    EXPECT_FALSE(rules([](RetentionRules& r) { r.tags = {{"a"}}; }).empty());
}

// The example of restic's manual: backups on Sundays, `--keep-daily 4` keeps the last four of them, since days without one don't count.
TEST(Retention, DaysWithoutABackupDontCount) {
    Made made;
    for (const char* day : {"2014-09-01", "2014-09-02", "2014-09-05", "2014-09-06", "2014-09-08", "2014-09-09", "2014-09-10"}) {
        made.at(std::string(day) + " 10:00");
    }
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 4)), (Numbers{4, 5, 6, 7}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 6)), (Numbers{2, 3, 4, 5, 6, 7}));
}

TEST(Retention, OfEachPeriodTheNewestIsKept) {
    Made made;
    made.at("2024-05-01 00:00").at("2024-05-01 00:59:59.999").at("2024-05-01 01:00").at("2024-05-01 23:59:59").at("2024-05-02 00:00");
    EXPECT_EQ(made.kept(counted(&RetentionRules::hourly, 9)), (Numbers{2, 3, 4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::hourly, 3)), (Numbers{3, 4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 9)), (Numbers{4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::monthly, 9)), (Numbers{5}));
}

TEST(Retention, DaysAreCutInUtc) {
    Made made;
    made.at("2024-05-01T23:30:00+02:00").at("2024-05-02T01:30:00+02:00").at("2024-05-02T02:30:00+02:00");
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 9)), (Numbers{2, 3}));  // 1 and 2 are of May 1st, 23:30 at the latest
}

TEST(Retention, WeeksBeginOnMonday) {
    Made made;
    made.at("2024-05-05 23:59").at("2024-05-06 00:00").at("2024-05-12 23:59").at("2024-05-13 00:00");  // Sunday, Monday, Sunday, Monday
    EXPECT_EQ(made.kept(counted(&RetentionRules::weekly, 9)), (Numbers{1, 3, 4}));
}

TEST(Retention, AWeekAcrossTheYearsEndIsOne) {
    Made made;
    made.at("2024-12-30").at("2024-12-31").at("2025-01-01").at("2025-01-05").at("2025-01-06");  // ISO 2025-W01 five times but for the last
    EXPECT_EQ(made.kept(counted(&RetentionRules::weekly, 9)), (Numbers{4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::yearly, 9)), (Numbers{2, 5}));
}

TEST(Retention, KnowsLeapDays) {
    Made made;
    made.at("2024-02-28 12:00").at("2024-02-29 12:00").at("2024-03-01 12:00").at("2100-02-28 12:00").at("2100-03-01 12:00");
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 9)), (Numbers{1, 2, 3, 4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::monthly, 9)), (Numbers{2, 3, 4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::yearly, 9)), (Numbers{3, 5}));
}

TEST(Retention, KnowsTimesBefore1970) {
    Made made;
    made.at_ns(-2 * kDayNs - 1).at_ns(-kDayNs).at_ns(-1).at_ns(0).at_ns(1);
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 9)), (Numbers{1, 3, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::yearly, 9)), (Numbers{3, 5}));
}

// Three years of a backup a day, with the policy that many use: the numbers are those that the rules promise.
TEST(Retention, ThreeYearsOfDailyBackups) {
    Made made;
    const std::int64_t first = parse_time("2022-01-01 03:00");
    for (int day = 0; day < 1096; ++day) {  // the last is of 2024-12-31
        made.at_ns(first + day * kDayNs);
    }
    const RetentionRules policy = rules([](RetentionRules& r) {
        r.daily = 7;
        r.weekly = 5;
        r.monthly = 12;
        r.yearly = 10;
    });
    std::vector<std::string> dates;
    for (const unsigned number : made.kept(policy)) {
        dates.push_back(format_utc(made.backups[number - 1].utc_ns).substr(0, 10));
    }
    EXPECT_EQ(dates, (Texts{"2022-12-31", "2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31", "2024-06-30",
                            "2024-07-31", "2024-08-31", "2024-09-30", "2024-10-31", "2024-11-30", "2024-12-08", "2024-12-15", "2024-12-22",
                            "2024-12-25", "2024-12-26", "2024-12-27", "2024-12-28", "2024-12-29", "2024-12-30", "2024-12-31"}));
    EXPECT_EQ(made.why(1096, policy), (Texts{"daily 1 of 7", "weekly 1 of 5", "monthly 1 of 12", "yearly 1 of 10", "the newest good one"}));
}

// Whatever is forgotten each day, what stays is what one run at the end would have kept of all.
TEST(Retention, EveryDayOrOnceAtTheEndComesToTheSame) {
    const auto seed = static_cast<unsigned>(utc_now_ns());
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const RetentionRules policy = rules([](RetentionRules& r) {
        r.last = 2;
        r.hourly = 5;
        r.daily = 4;
        r.weekly = 3;
        r.monthly = 3;
        r.yearly = 2;
    });
    Made all;
    Made daily;
    std::int64_t time = parse_time("2023-11-01");
    for (int i = 0; i < 1500; ++i) {
        time += static_cast<std::int64_t>(random() % 40) * kHourNs / 2;
        all.at_ns(time);
        daily.backups.push_back(all.backups.back());
        const auto verdicts = apply_retention(policy, daily.backups, kFarFuture);
        std::vector<RetentionBackup> left;
        for (std::size_t at = 0; at < verdicts.size(); ++at) {
            if (!verdicts[at].empty()) {
                left.push_back(daily.backups[at]);
            }
        }
        daily.backups = left;
        ASSERT_EQ(daily.kept(policy), all.kept(policy)) << i;
    }
}

// ---- Clocks

TEST(Retention, AClockThatRanBackwardsChangesNeitherOrderNorPeriods) {
    Made made;
    made.at("2024-05-01").at("2024-05-02").at("2024-05-03").at("1970-01-01").at("1970-01-02");
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{4, 5}));
    EXPECT_EQ(*newest_of(made.backups), 4U);
    made.at("2024-05-06");
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{5, 6}));
    // The two of 1970 take a place each, as on the days when they were really made.
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 4)), (Numbers{3, 4, 5, 6}));
}

TEST(Retention, ADayThatAClockEntersAgainCountsOnce) {
    Made made;
    made.at("2024-05-01 12:00").at("2024-05-02 12:00").at("2024-05-01 13:00").at("2024-05-02 13:00");
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 9)), (Numbers{3, 4}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 1)), (Numbers{4}));
}

TEST(Retention, OfEqualTimesAndNumbersTheLaterCounts) {
    Made made;
    made.at("2024-05-01").at("2024-05-01").at("2024-05-01");
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 9)), (Numbers{3}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{2, 3}));
    made.backups[0].sequence = made.backups[1].sequence = made.backups[2].sequence = 7;
    const auto verdicts = apply_retention(counted(&RetentionRules::last, 1), made.backups, kFarFuture);
    EXPECT_TRUE(verdicts[0].empty() && verdicts[1].empty() && !verdicts[2].empty());
    made.backups[0].utc_ns += 1;  // of one number, the time decides
    EXPECT_EQ(*newest_of(made.backups), 0U);
}

TEST(Retention, TheOrderOfTheInputDoesntCount) {
    Made made;
    made.at("2024-05-01").at("2024-05-02").at("2024-05-03");
    std::reverse(made.backups.begin(), made.backups.end());
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{3, 2}));
}

// ---- Within

TEST(Retention, WithinIsCountedFromTheNewestBackup) {
    Made made;
    made.at("2024-05-01 12:00").at("2024-05-08 11:59").at("2024-05-08 12:00").at("2024-05-15 12:00");
    EXPECT_EQ(made.kept(within(7 * kDayNs)), (Numbers{3, 4}));
    EXPECT_EQ(made.kept(within(7 * kDayNs + 60 * 1'000'000'000LL)), (Numbers{2, 3, 4}));
    EXPECT_EQ(made.kept(within(0)), (Numbers{4}));
}

TEST(Retention, WithinIsntMisledByWrongClocks) {
    Made made;
    made.at("2024-05-01").at("2099-01-01").at("2024-05-02").at("1970-01-01").at("2024-05-03");
    EXPECT_EQ(made.kept(within(kDayNs)), (Numbers{3, 4, 5}));            // 4 is as old as 3
    EXPECT_EQ(made.kept(within(2 * kDayNs)), (Numbers{1, 2, 3, 4, 5}));  // 2 is as old as 1
    // The newest is ahead: counted from now.
    made.at("2099-01-01");
    EXPECT_EQ(made.kept(within(kDayNs), parse_time("2024-05-04")), (Numbers{5, 6}));
    // The newest is behind: nothing goes that might be young.
    made.at("1970-01-01");
    EXPECT_EQ(made.kept(within(kDayNs), parse_time("2024-05-04")), (Numbers{1, 2, 3, 4, 5, 6, 7}));
}

TEST(Retention, TimesAtTheEndsOfTheirRange) {
    Made made;
    made.at_ns(INT64_MIN).at_ns(INT64_MAX).at_ns(INT64_MIN).at_ns(0).at_ns(INT64_MAX);
    RetentionRules all = within(INT64_MAX);
    all.hourly = all.daily = all.weekly = all.monthly = all.yearly = 9;
    const auto verdicts = apply_retention(all, made.backups, kFarFuture);
    EXPECT_FALSE(verdicts.back().empty());
}

// ---- Tags, pins, and what is damaged

TEST(Retention, TagsKeepWhatHasAllOfAList) {
    Made made;
    made.at("2024-05-01")
        .tagged({"a"})
        .at("2024-05-02")
        .tagged({"a", "b"})
        .at("2024-05-03")
        .tagged({"c"})
        .at("2024-05-04")
        .at("2024-05-05");
    EXPECT_EQ(made.kept(rules([](RetentionRules& r) { r.tags = {{"a"}}; })), (Numbers{1, 2, 5}));
    const RetentionRules two = rules([](RetentionRules& r) { r.tags = {{"b", "a"}, {"c"}}; });
    EXPECT_EQ(made.kept(two), (Numbers{2, 3, 5}));
    EXPECT_EQ(made.why(2, two), (Texts{"tag b,a"}));
}

TEST(Retention, PinnedOnesStay) {
    Made made;
    made.at("2024-05-01").pinned().at("2024-05-02").at("2024-05-03");
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 1)), (Numbers{1, 3}));
    EXPECT_EQ(made.why(1, counted(&RetentionRules::last, 1)), (Texts{"pinned"}));
}

TEST(Retention, IncompleteOnesTakeNoPlaceFromGoodOnes) {
    Made made;
    made.at("2024-05-01").at("2024-05-02").at("2024-05-03").incomplete().at("2024-05-04").at("2024-05-05").incomplete();
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{2, 4, 5}));  // 3 is the third of all
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 3)), (Numbers{1, 2, 3, 4, 5}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 1)), (Numbers{4, 5}));
}

TEST(Retention, ManyIncompleteOnesDontPileUp) {
    Made made;
    made.at("2024-05-01").at("2024-05-02");
    for (int i = 0; i < 10; ++i) {
        made.at("2024-05-03").incomplete();
    }
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 3)), (Numbers{1, 2, 10, 11, 12}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::daily, 2)), (Numbers{1, 2, 12}));
}

TEST(Retention, TheNewestGoodOneStaysWhateverTheRules) {
    Made made;
    made.at("2024-05-01").tagged({"a"}).at("2024-05-02").at("2024-05-03").incomplete();
    const RetentionRules tags = rules([](RetentionRules& r) { r.tags = {{"a"}}; });
    EXPECT_EQ(made.kept(tags), (Numbers{1, 2}));
    EXPECT_EQ(made.why(2, tags), (Texts{"the newest good one"}));
}

TEST(Retention, WhereNoneIsGoodTheNewestStays) {
    Made made;
    made.at("2024-05-01").incomplete().at("2024-05-02").incomplete().at("2024-05-03").unreadable();
    EXPECT_EQ(made.kept(rules([](RetentionRules& r) { r.tags = {{"a"}}; })), (Numbers{2, 3}));
}

TEST(Retention, WhatCantBeReadStaysAndTakesNoPlace) {
    Made made;
    made.at("2024-05-01").unreadable().at("2024-05-02").at("2024-05-03").unreadable().at("2024-05-04");
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 1)), (Numbers{1, 3, 4}));
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 2)), (Numbers{1, 2, 3, 4}));
    EXPECT_EQ(made.why(1, counted(&RetentionRules::last, 1)), (Texts{"can't be read, \"nodesnap repair\" first"}));
}

TEST(Retention, WhatIsHeldStays) {
    Made made;
    made.at("2024-05-01").at("2024-05-02");
    made.backups[0].held = KeepRule::kNewerVersion;
    EXPECT_EQ(made.kept(counted(&RetentionRules::last, 1)), (Numbers{1, 2}));
}

TEST(Retention, MoreThanHalfIsAMassExpiry) {
    EXPECT_FALSE(is_mass_expiry(0, 0));
    EXPECT_TRUE(is_mass_expiry(1, 1));
    EXPECT_FALSE(is_mass_expiry(1, 2));
    EXPECT_FALSE(is_mass_expiry(1, 3));
    EXPECT_TRUE(is_mass_expiry(2, 3));
    EXPECT_FALSE(is_mass_expiry(2, 4));
    EXPECT_TRUE(is_mass_expiry(3, 4));
}

TEST(Retention, AHundredThousandBackups) {
    Made made;
    for (int i = 0; i < 100'000; ++i) {
        made.at_ns(parse_time("2010-01-01") + i * kHourNs);
    }
    EXPECT_EQ(made.kept(counted(&RetentionRules::hourly, 50'000)).size(), 50'000U);
}

}  // namespace
}  // namespace nodesnap
