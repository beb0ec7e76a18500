#include "snapshot/hold/intent.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "platform/cgroup.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/hold/release.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/loop_mount.h"
#include "tests/support/test_cgroup.h"

namespace nodesnap::hold {
namespace {

Intent sample() {
    Intent intent;
    intent.id = "0123456789abcdef";
    intent.mode = Mode::kFreeze;
    intent.what = "cgroup /a";
    intent.already = true;
    intent.phase = Phase::kPrepared;
    intent.active_since_us = 91;
    intent.boot_id = "boot";
    intent.pid = 12;
    intent.process_start = 34;
    intent.created_ns = 56;
    intent.cgroup = "/a/\xff";
    intent.cgroup_id = 0xffffffffffffffff;
    intent.member_pid = 78;
    intent.member_start = 90;
    intent.unit = "u.service";
    intent.dependents = {"b.service", "c.service"};
    intent.systemctl = "/bin/systemctl";
    intent.before_command = "before";
    intent.after_command = "after";
    intent.status_command = "status";
    intent.max_downtime_ns = 1;
    intent.stop_timeout_ns = 2;
    intent.command_limit_ns = 3;
    intent.node_directory = "/node";
    intent.mount_back = true;
    return intent;
}

TEST(Intent, ReadsAsItWasWritten) {
    const Intent intent = sample();
    const Intent again = decode(encode(intent), "name");
    EXPECT_EQ(encode(again), encode(intent));
    EXPECT_EQ(again.cgroup, intent.cgroup);
    EXPECT_EQ(again.cgroup_id, intent.cgroup_id);
    EXPECT_EQ(again.dependents, intent.dependents);
    EXPECT_TRUE(again.already);
    EXPECT_EQ(again.mode, Mode::kFreeze);
}

TEST(Intent, EachByteIsChecked) {
    const std::string text = encode(sample());
    for (std::size_t at = 0; at < text.size(); at += 7) {
        std::string other = text;
        other[at] ^= 1;
        EXPECT_THROW(decode(other, "name"), Error) << at;
    }
    EXPECT_THROW(decode(text.substr(0, text.size() / 2), "name"), Error);
}

TEST(Intent, NamesAreOneComponentAndDiffer) {
    EXPECT_EQ(intent_name(Mode::kFreeze, "/system.slice/qdbd.service"), "freeze-%2Fsystem.slice%2Fqdbd.service.json");
    const std::string longer(5000, 'x');
    EXPECT_LT(intent_name(Mode::kStop, longer).size(), 255u);
    EXPECT_NE(intent_name(Mode::kStop, longer + "a"), intent_name(Mode::kStop, longer + "b"));
    EXPECT_EQ(intent_name(Mode::kHook, "../x\n").find('/'), std::string::npos);
}

class IntentFileTest : public testing::Test {
protected:
    std::optional<IntentFile> lock() const { return IntentFile::lock(scratch_.path(), "name.json", 0); }
    std::string file() const { return scratch_ / "hold/name.json"; }
    test::ScratchDirectory scratch_;
};

TEST_F(IntentFileTest, IsHeldByOneAndStaysUntilItIsRemoved) {
    {
        auto first = lock();
        ASSERT_TRUE(first);
        EXPECT_FALSE(lock());
        EXPECT_FALSE(first->read());
        first->write(sample());
    }
    auto second = lock();
    ASSERT_TRUE(second && second->read());
    EXPECT_EQ(second->read()->id, sample().id);
    second->remove();
    EXPECT_FALSE(stat_path(file()));
    // The name is free for another while the first still has its file.
    auto third = lock();
    ASSERT_TRUE(third);
    third->write(sample());
    second->remove();
    second.reset();
    EXPECT_TRUE(stat_path(file())) << "another's intent must not be removed";
}

TEST_F(IntentFileTest, EmptyOneGoesWithItsLock) {
    lock();
    EXPECT_FALSE(stat_path(file()));
}

TEST_F(IntentFileTest, CutOffOneSaysThatNothingWasHeld) {
    lock()->write(sample());
    std::filesystem::resize_file(file(), 100);
    EXPECT_FALSE(lock()->read());
    const auto left = release_left(scratch_.path(), 0);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kNothing);
    EXPECT_FALSE(stat_path(file()));
}

TEST_F(IntentFileTest, IsPrivateAndFailsLoudly) {
    auto file_lock = lock();
    test::FaultHooks hooks;
    std::uint64_t failed = 0;
    for (const char* operation : {"truncate", "write", "fsync"}) {
        hooks.fail_nth(1, ENOSPC, false, operation);
        EXPECT_THROW(file_lock->write(sample()), Error) << operation;
        EXPECT_EQ(hooks.injected(), ++failed) << operation;
        hooks.stop_failing();
    }
    file_lock->write(sample());
    EXPECT_EQ(stat_path(file())->stx_mode & 0777, 0600);
}

TEST_F(IntentFileTest, WhatWasLetGoIsntUndoneThoughItsIntentCantBeRemoved) {
    const std::string trace = scratch_ / "trace";
    Intent intent = sample();
    intent.mode = Mode::kHook;
    intent.already = false;
    intent.unit = intent.status_command = intent.cgroup = "";
    intent.command_limit_ns = 60'000'000'000;
    intent.after_command = "echo x >> " + trace;
    intent.mount_back = false;
    intent.phase = Phase::kBegun;
    lock()->write(intent);
    test::FaultHooks hooks;
    hooks.fail_nth(1, EROFS, true, "unlink");
    EXPECT_EQ(release_left(scratch_.path(), 0).at(0).state, Left::State::kReleased);
    EXPECT_GT(hooks.injected(), 0u);
    hooks.stop_failing();
    EXPECT_TRUE(stat_path(file()));
    EXPECT_EQ(release_left(scratch_.path(), 0).at(0).state, Left::State::kNothing);
    EXPECT_EQ(read_small_file(trace), "x\n");
    EXPECT_FALSE(stat_path(file()));
}

TEST_F(IntentFileTest, FreezeOfAnEarlierBootOrOfACgroupThatIsGoneIsOver) {
    NODESNAP_NEEDS_CGROUPS();
    const test::TestCgroup made;
    Intent intent = sample();
    intent.already = false;
    intent.unit = "";
    intent.cgroup = made.path();
    Cgroup::open(made.path())->request_freeze(true);
    const auto release = [&] {
        lock()->write(intent);
        const auto left = release_left(scratch_.path(), 0);
        return left.size() == 1 ? left[0].state : Left::State::kFailed;
    };
    intent.cgroup_id = Cgroup::open(made.path())->id();
    EXPECT_EQ(release(), Left::State::kNothing);  // boot id "boot"
    EXPECT_TRUE(made.freeze_requested());
    intent.boot_id = boot_id();
    intent.cgroup_id += 1;
    EXPECT_EQ(release(), Left::State::kReleased);
    EXPECT_TRUE(made.freeze_requested()) << "a namesake isn't what was frozen";
    intent.cgroup_id -= 1;
    intent.already = true;
    EXPECT_EQ(release(), Left::State::kNothing);
    EXPECT_TRUE(made.freeze_requested()) << "what was frozen before stays frozen";
    intent.already = false;
    EXPECT_EQ(release(), Left::State::kReleased);
    EXPECT_FALSE(made.freeze_requested());
    EXPECT_FALSE(stat_path(file()));
}

}  // namespace
}  // namespace nodesnap::hold
