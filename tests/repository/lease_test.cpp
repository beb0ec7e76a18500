// When a lease is taken over, and when it isn't: by what was seen of it, not by clocks. Over a connection as without.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "platform/clock.h"
#include "platform/error.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/lease_record.h"
#include "snapshot/repository/lock.h"
#include "tests/io/target_fixture.h"
#include "tests/support/served_target.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kHourNs = 3600 * kSecondNs;

class LeaseTest : public testing::TestWithParam<bool> {
protected:
    LeaseTest() : stored_(StrictTarget::make()), target_(GetParam() ? open_served_target(stored_) : stored_) {}

    // A holder on another host, which has said so `ago` by this host's clock.
    static LeaseHolder elsewhere(std::int64_t ago_ns, std::int64_t lease_seconds = 1) {
        LeaseHolder holder = this_holder("backup", lease_seconds);
        holder.epoch = 7;
        holder.host = "elsewhere";
        holder.machine_id = "0123456789abcdef0123456789abcdef";
        holder.boot_id = "another";
        holder.heartbeat_ns -= ago_ns;
        holder.acquired_ns = holder.heartbeat_ns;
        return holder;
    }
    void store(const LeaseHolder& holder) {
        const auto before = target_->load(layout::kExclusiveLock, 10000);
        const auto expected = before ? std::optional(before->version) : std::nullopt;
        ASSERT_TRUE(target_->swap(layout::kExclusiveLock, expected, encode_lease(repository_, holder)));
    }
    Lease acquire(std::chrono::seconds wait = 0s) {
        LeaseOptions options;
        options.command = "prune";
        options.wait = wait;
        options.waiting = [this](const std::string& why) { told_ += why; };
        return Lease::acquire(*target_, repository_, options);
    }

    const Uuid repository_ = Uuid::random();
    const std::shared_ptr<StrictTarget> stored_;
    const std::shared_ptr<Target> target_;
    std::string told_;
};

// However long its time seems to be over: this host's clock may have jumped, or the other's be wrong.
TEST_P(LeaseTest, OfADeadHostIsWatchedBeforeItIsTakenOver) {
    for (const std::int64_t ago_ns : {10 * kSecondNs, 3 * kHourNs, 1000 * kHourNs, -3 * kHourNs}) {
        told_.clear();
        store(elsewhere(ago_ns));
        const std::int64_t begun_ns = boot_time_ns();
        const Lease lease = acquire();
        EXPECT_GE(boot_time_ns() - begun_ns, kSecondNs / 2) << ago_ns;
        EXPECT_TRUE(lease.took_over());
        EXPECT_EQ(lease.epoch(), 8U);
        EXPECT_NE(told_.find("backup"), std::string::npos) << told_;
        EXPECT_NE(told_.find("host elsewhere"), std::string::npos) << told_;
        EXPECT_NE(told_.find("it is taken over if nothing is heard of it for 1 s"), std::string::npos) << told_;
    }
}

TEST_P(LeaseTest, OfALivingHostIsNotTakenOverWhateverTheClocksSay) {
    for (const std::int64_t ago_ns : {std::int64_t{0}, 3 * kHourNs, 1000 * kHourNs, -3 * kHourNs}) {
        store(elsewhere(ago_ns));
        std::atomic<bool> ends{false};
        std::thread holder([&] {
            while (!ends) {
                store(elsewhere(ago_ns));
                std::this_thread::sleep_for(20ms);  // a heartbeat
            }
        });
        try {
            acquire();
            ADD_FAILURE() << "taken over, " << ago_ns;
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kLocked);
            EXPECT_NE(std::string(error.what()).find("host elsewhere"), std::string::npos) << error.what();
            EXPECT_NE(error.hint().find("its lock ends 1 s after its last sign of life"), std::string::npos) << error.hint();
        }
        ends = true;
        holder.join();
    }
}

// A fresh one of a host that has just died: turned away at once, and had by waiting, once its time is over.
TEST_P(LeaseTest, ThatIsFreshIsWaitedFor) {
    store(elsewhere(0));
    EXPECT_EQ(status_of([&] { acquire(); }), ExitStatus::kLocked);
    const std::int64_t begun_ns = boot_time_ns();
    const Lease lease = acquire(60s);
    EXPECT_GE(boot_time_ns() - begun_ns, kSecondNs);  // what is left of its time, and half of that again
    EXPECT_TRUE(lease.took_over());
}

// This host's clock was set back after the last sign of life, by less than a lease: that is waited for, too, and not for ever.
TEST_P(LeaseTest, OfAClockThatIsAheadIsWaitedFor) {
    store(elsewhere(-kSecondNs / 2));
    const Lease lease = acquire(60s);
    EXPECT_TRUE(lease.took_over());
}

TEST_P(LeaseTest, ThatAnotherHasTakenIsLost) {
    Lease lease = acquire();
    lease.check();
    lease.renew();
    LeaseHolder other = elsewhere(0);
    other.epoch = lease.epoch() + 1;
    store(other);
    EXPECT_EQ(status_of([&] { lease.check(); }), ExitStatus::kLocked);
    lease.release();
    EXPECT_TRUE(load_lease(*target_, repository_)->holder.held);  // the other's stays
}

INSTANTIATE_TEST_SUITE_P(Targets, LeaseTest, testing::Values(false, true),
                         [](const auto& served) { return served.param ? "served" : "direct"; });

}  // namespace
}  // namespace nodesnap::test
