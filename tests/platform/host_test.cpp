#include "platform/host.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <vector>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/random.h"

namespace nodesnap {
namespace {

TEST(Host, NamesItself) {
    EXPECT_FALSE(host_name().empty());
    EXPECT_GE(machine_id().size(), 10u);
    EXPECT_EQ(machine_id(), machine_id());
    EXPECT_EQ(boot_id().size(), 36u);
    EXPECT_GE(cpu_count(), 1u);
}

TEST(Host, UsersAndGroupsAreFoundBothWays) {
    EXPECT_EQ(user_name(0), "root");
    EXPECT_EQ(group_name(0), "root");
    EXPECT_EQ(user_id("root"), 0u);
    EXPECT_EQ(group_id("root"), 0u);
    EXPECT_EQ(user_name(3999999999u), std::nullopt);
    EXPECT_EQ(group_name(3999999999u), std::nullopt);
    EXPECT_EQ(user_id("no such user \xff"), std::nullopt);
    EXPECT_EQ(group_id(""), std::nullopt);
    EXPECT_EQ(user_name(0), "root");
}

TEST(Clock, GoesOn) {
    EXPECT_GT(utc_now_ns(), 1'500'000'000'000'000'000);
    const std::int64_t first = monotonic_ns();
    EXPECT_GE(monotonic_ns(), first);
    EXPECT_GE(boot_time_ns(), first);
}

TEST(Random, BytesDiffer) {
    std::set<std::uint64_t> seen;
    for (int i = 0; i < 100; ++i) {
        seen.insert(random_u64());
    }
    EXPECT_EQ(seen.size(), 100u);
    std::vector<std::byte> large(100000);
    random_bytes(large);
    EXPECT_NE(large, std::vector<std::byte>(100000));
    random_bytes({});
}

TEST(Interrupt, SignalIsSeenAndNamed) {
    interrupt::install();
    EXPECT_FALSE(interrupted());
    EXPECT_NO_THROW(throw_if_interrupted());
    ::raise(SIGPIPE);  // ignored
    ::raise(SIGINT);
    EXPECT_TRUE(interrupted());
    try {
        throw_if_interrupted();
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.message(), "interrupted by SIGINT");
        EXPECT_EQ(error.status(), ExitStatus::kFailed);
    }
    interrupt::clear();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
        ::signal(signal, SIG_DFL);
    }
    EXPECT_FALSE(interrupted());
}

}  // namespace
}  // namespace nodesnap
