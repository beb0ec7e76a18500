// The lease of a client that has gone is released by its server; that of one that lives isn't, and one that another has taken stays.
#include "snapshot/repository/served_lease.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "io/target/directory.h"
#include "platform/presence.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/lease_record.h"
#include "tests/io/target_fixture.h"
#include "tests/support/loop_mount.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {
namespace {

constexpr std::uint64_t kSession = 0xfedcba9876543210;

class ServedLeaseTest : public testing::Test {
protected:
    // As the server of a connection does it, over which the stored lease came.
    std::unique_ptr<ServedLease> server(const std::shared_ptr<Target>& target) {
        auto served = std::make_unique<ServedLease>();
        served->greeted(target, kSession);
        served->swapped(layout::kExclusiveLock, target->load(layout::kExclusiveLock, 10000)->content);
        return served;
    }
    std::unique_ptr<ServedLease> server() { return server(target_); }
    Lease acquire() {
        LeaseOptions options;
        options.command = "backup";
        return Lease::acquire(*target_, repository_, options);
    }
    // A client that nobody sees from here.
    LeaseHolder store_elsewhere(std::uint64_t epoch) {
        LeaseHolder holder = this_holder("backup", 300);
        holder.epoch = epoch;
        holder.host = "elsewhere";
        holder.machine_id = "0123456789abcdef0123456789abcdef";
        holder.boot_id = "another";
        const auto before = target_->load(layout::kExclusiveLock, 10000);
        EXPECT_TRUE(target_->swap(layout::kExclusiveLock, before ? std::optional(before->version) : std::nullopt,
                                  encode_lease(repository_, holder)));
        return holder;
    }
    bool held() { return load_lease(*target_, repository_)->holder.held; }

    const ScratchDirectory scratch_{"nodesnap-served-lease"};
    const Uuid repository_ = Uuid::random();
    const std::shared_ptr<Target> target_ = open_directory_target(scratch_ / "target", true);
};

TEST_F(ServedLeaseTest, IsHadAtOnceWhenItsClientHasGone) {
    store_elsewhere(5);
    EXPECT_EQ(status_of([&] { acquire(); }), ExitStatus::kLocked);
    server().reset();
    EXPECT_EQ(acquire().epoch(), 6U);
}

// Its heartbeats may have come by other connections.
TEST_F(ServedLeaseTest, IsReleasedHoweverOftenItWasRenewed) {
    LeaseHolder holder = store_elsewhere(5);
    auto served = server();
    beat(holder);
    const auto stored = load_lease(*target_, repository_);
    ASSERT_TRUE(target_->swap(layout::kExclusiveLock, stored->version, encode_lease(repository_, holder)));
    served->swapped("repository.json", bytes_of("something else"));
    served.reset();
    EXPECT_FALSE(held());
}

TEST_F(ServedLeaseTest, StaysWhenItIsAnothers) {
    store_elsewhere(5);
    auto served = server();
    store_elsewhere(6);
    served.reset();
    EXPECT_TRUE(held());
}

TEST_F(ServedLeaseTest, OneThatWasReleasedIsLeftAlone) {
    auto lease = std::make_unique<Lease>(acquire());
    auto served = server();
    lease->release();
    const auto released = target_->load(layout::kExclusiveLock, 10000);
    served->swapped(layout::kExclusiveLock, released->content);
    served.reset();
    EXPECT_EQ(target_->load(layout::kExclusiveLock, 10000)->version, released->version);
}

// A client that is cut off, and lives.
TEST_F(ServedLeaseTest, IsLostForAClientThatLives) {
    const Lease lease = acquire();
    lease.check();
    server().reset();
    EXPECT_EQ(status_of([&] { lease.check(); }), ExitStatus::kLocked);
    EXPECT_EQ(status_of([&] { lease.renew(); }), ExitStatus::kLocked);
    EXPECT_FALSE(held());
}

TEST_F(ServedLeaseTest, IsKeptWhileTheClientHasOtherConnections) {
    store_elsewhere(5);
    auto other = Presence::declare(target_->local_directory().value(), kSession);
    ASSERT_TRUE(other);
    auto served = server();
    auto ending = std::async(std::launch::async, [&] { served.reset(); });
    for (int i = 0; i < 1000; ++i) {
        ASSERT_TRUE(held());
    }
    EXPECT_NE(ending.wait_for(std::chrono::seconds(0)), std::future_status::ready);
    other.reset();
    ending.get();
    EXPECT_FALSE(held());
}

TEST_F(ServedLeaseTest, OtherClientsDoNotMatter) {
    store_elsewhere(5);
    const auto other = Presence::declare(target_->local_directory().value(), kSession + 1);
    server().reset();
    EXPECT_FALSE(held());
}

// Where it can't be told whether the client has other connections.
TEST_F(ServedLeaseTest, StaysWhereThereIsNoDirectory) {
    const auto strict = StrictTarget::make();
    strict->create(layout::kExclusiveLock, encode_lease(repository_, store_elsewhere(5)));
    server(strict).reset();
    EXPECT_TRUE(load_lease(*strict, repository_)->holder.held);
}

}  // namespace
}  // namespace nodesnap::test
