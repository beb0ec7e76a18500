// What is kept of backups that came by way of a key that may only append: their own dates, and how many there are, are the sender's to say.
#include <gtest/gtest.h>

#include "io/units.h"
#include "platform/clock.h"
#include "snapshot/repository/receipt.h"
#include "snapshot/repository/roll.h"
#include "tests/snapshot/forget_fixture.h"

namespace nodesnap::test {
namespace {

constexpr std::int64_t kDayNs = 24LL * 3600 * 1'000'000'000;
const std::int64_t kNow = parse_time("2024-06-01T12:00:00");

// Received in this order.
std::vector<RetentionBackup> received(const std::vector<std::string>& times) {
    std::vector<RetentionBackup> backups;
    for (const std::string& time : times) {
        RetentionBackup backup;
        backup.sequence = backups.size() + 1;
        backup.utc_ns = parse_time(time);
        backup.received = true;
        backups.push_back(backup);
    }
    return backups;
}

std::vector<unsigned> kept(const RetentionRules& rules, const std::vector<RetentionBackup>& backups) {
    std::vector<unsigned> numbers;
    const auto verdicts = apply_retention(rules, backups, kNow);
    for (std::size_t i = 0; i < backups.size(); ++i) {
        if (!verdicts[i].empty()) {
            numbers.push_back(static_cast<unsigned>(backups[i].sequence));
        }
    }
    return numbers;
}

using Numbers = std::vector<unsigned>;

TEST(Received, OfEachPeriodTheFirstStaysToo) {
    RetentionRules rules;
    rules.daily = 2;
    auto backups = received({"2024-05-01T01:00:00", "2024-05-02T01:00:00", "2024-05-02T02:00:00", "2024-05-02T03:00:00",
                             "2024-05-03T01:00:00", "2024-05-03T05:00:00"});
    EXPECT_EQ(kept(rules, backups), (Numbers{2, 4, 5, 6}));
    for (RetentionBackup& backup : backups) {
        backup.received = false;
    }
    EXPECT_EQ(kept(rules, backups), (Numbers{4, 6}));
}

// A thousand in one day take one day's place.
TEST(Received, AFloodPushesNothingOutOfEarlierPeriods) {
    RetentionRules rules;
    rules.daily = 5;
    rules.weekly = 4;
    auto backups = received({"2024-05-01T01:00:00", "2024-05-08T01:00:00", "2024-05-15T01:00:00", "2024-05-16T01:00:00",
                             "2024-05-17T01:00:00", "2024-05-18T01:00:00"});
    const Numbers before = kept(rules, backups);
    EXPECT_EQ(before, (Numbers{1, 2, 3, 4, 5, 6}));
    for (unsigned i = 0; i < 1000; ++i) {
        RetentionBackup lie = backups.back();
        lie.sequence += 1;
        lie.utc_ns = parse_time("2024-05-18T02:00:00") + i;
        backups.push_back(lie);
    }
    Numbers expected = before;
    expected.push_back(1006);
    EXPECT_EQ(kept(rules, backups), expected);
}

TEST(Received, WhatCameLatelyStays) {
    RetentionRules rules;
    rules.last = 1;
    const auto backups = received({"2024-05-25T11:59:59", "2024-05-25T12:00:01", "2024-05-31T00:00:00", "2024-06-02T00:00:00"});
    EXPECT_EQ(kept(rules, backups), (Numbers{2, 3, 4}));
    rules.received_within = std::chrono::nanoseconds(0);
    EXPECT_EQ(kept(rules, backups), (Numbers{4}));
}

class ForgetReceived : public ForgetTest {
protected:
    void SetUp() override {
        under_lease([](Repository& repository, Lease& lease) { repository.begin_receipts(lease); });
    }
    // One that says it is of `claimed`, and came so many days ago.
    void receive(const std::string& claimed, unsigned days_ago) {
        Repository repository = repository_.open();
        MadeBackup backup;
        backup.made_at(parse_time(claimed) / 1'000'000'000);
        made_.push_back(backup.publish(repository));
        Receipt receipt;
        receipt.manifest = made_.back().name;
        receipt.session = made_.back().id;
        receipt.received_ns = utc_now_ns() - days_ago * kDayNs - kDayNs / 2;
        ASSERT_TRUE(repository_.target->create(layout::receipt(receipt.manifest), encode_receipt(repository.info().uuid, receipt)));
    }
    static ForgetOptions keep_daily(unsigned count) {
        ForgetOptions options;
        options.rules.daily = count;
        options.allow_mass_expire = true;
        return options;
    }
};

TEST_F(ForgetReceived, ForgedDatesExpireNothing) {
    for (const unsigned days_ago : {40U, 30U, 20U, 10U}) {
        receive("2024-05-01", days_ago);
    }
    // In the future and in the past, each on a day of its own.
    for (unsigned i = 0; i < 9; ++i) {
        receive("2199-01-0" + std::to_string(i + 1), 9);
        receive("1999-01-0" + std::to_string(i + 1), 9);
    }
    const ForgetResult result = forget(keep_daily(5));
    EXPECT_EQ(result.plan.removed, 16U);  // of the last day the first and the last stay
    EXPECT_EQ(left(), (std::vector<int>{0, 1, 2, 3, 4, 21}));
    EXPECT_EQ(repository_.names("receipts/0").size(), 6U);
}

// A backup that says it is old doesn't go for it, and one that says it is new doesn't stay for it.
TEST_F(ForgetReceived, KeepWithinGoesByTheReceipt) {
    receive("2199-01-01", 50);
    receive("1999-01-01", 12);
    receive("1999-01-01", 9);
    ForgetOptions options;
    options.rules.within = std::chrono::nanoseconds(5 * kDayNs);
    forget(options);
    EXPECT_EQ(left(), (std::vector<int>{1, 2}));
}

TEST_F(ForgetReceived, MoreThanHalfOfWhatWasKeptDoesNotGoUnasked) {
    for (unsigned days_ago = 30; days_ago > 20; --days_ago) {
        receive("2024-05-01", days_ago);
    }
    ForgetOptions options;
    options.rules.last = 10;
    EXPECT_EQ(forget(options).plan.removed, 0U);
    for (unsigned i = 0; i < 6; ++i) {
        receive("2024-05-01", 15);
    }
    EXPECT_EQ(plan_forget(repository_.open(), options, report_).removed, 6U);  // of 16
    EXPECT_EQ(status_of(options), ExitStatus::kRefused);
    EXPECT_EQ(left().size(), 16U);
    options.allow_mass_expire = true;
    EXPECT_EQ(status_of(options), ExitStatus::kDone);
    EXPECT_EQ(load_roll(*repository_.target, repository_.open().info().uuid)->size(), 10U);
}

TEST_F(ForgetReceived, WhoseReceiptCannotBeReadStays) {
    receive("2024-05-01", 30);
    receive("2024-05-01", 20);
    receive("2024-05-01", 10);
    repository_.flip(layout::receipt(made_.front().name), 30);
    ForgetOptions options;
    options.rules.last = 1;
    forget(options);
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    EXPECT_FALSE(report_.warnings().empty());
    // By name it goes.
    forget(named({id(0)}));
    EXPECT_EQ(left(), (std::vector<int>{2}));
}

}  // namespace
}  // namespace nodesnap::test
