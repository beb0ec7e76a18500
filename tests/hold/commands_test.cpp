// Holding by the operator's commands: a real process that is stopped and started, and hooks.
#include <sys/resource.h>

#include <thread>

#include "platform/file.h"
#include "platform/processes.h"
#include "tests/hold/hold_fixture.h"

namespace nodesnap::hold {
namespace {

class CommandsTest : public HoldTest {
protected:
    void TearDown() override {
        if (const pid_t pid = daemon(); pid > 0) {
            ::kill(pid, SIGKILL);
            wait_until([&] { return !process_start(pid) || !process_alive(pid, *process_start(pid)); });
            release_left(scratch_.path(), 0);  // its cgroup
        }
    }

    std::string path(const std::string& name) const { return scratch_ / name; }
    // The daemon's pid, 0 if it doesn't run.
    pid_t daemon() const {
        const std::string text = read_small_file(path("pid")).value_or("");
        const pid_t pid = text.empty() ? 0 : std::stoi(text);
        const auto start = process_start(pid);
        return start && process_alive(pid, *start) ? pid : 0;
    }
    Options stop() const {
        Options all = options(Mode::kStop);
        all.after_command = "setsid sleep 1000 & echo $! > " + path("pid");
        all.before_command = "kill $(cat " + path("pid") + ") && while kill -0 $(cat " + path("pid") + ") 2> /dev/null; do :; done";
        all.status_command = "kill -0 $(cat " + path("pid") + ")";
        return all;
    }
    void start() const { test::run({"/bin/sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 & echo $! > " + path("pid")}); }
    Options hook(const std::string& before, const std::string& after) const {
        Options all = options(Mode::kHook);
        all.before_command = before;
        all.after_command = after;
        return all;
    }
    std::string log() const { return read_small_file(path("log")).value_or(""); }
    std::string note(const std::string& word) const {
        return "echo " + word + " $NODESNAP_HOLD $NODESNAP_REASON $NODESNAP_NODE_DIRECTORY >> " + path("log") + ";";
    }
};

TEST_F(CommandsTest, AnotherThreadMayLetGo) {
    Hold held(hook(note("before"), note("after")));
    held.hold();
    std::thread([&held] { held.let_go_now(); }).join();
    wait_until([this] { return log().find("after") != std::string::npos; });
    const Result result = held.release();
    EXPECT_FALSE(result.point_in_time);
    EXPECT_NE(result.broken, "");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(CommandsTest, WhatIsToBeLetGoIsNotHeld) {
    Hold held(hook(note("before"), note("after")));
    held.let_go_now();
    EXPECT_THROW(held.hold(), Error);
    EXPECT_EQ(log(), "");
}

TEST_F(CommandsTest, DaemonIsEndedAndStartedInACgroupThatStays) {
    start();
    const pid_t before = daemon();
    ASSERT_NE(before, 0);
    Hold held(stop());
    held.hold();
    EXPECT_EQ(daemon(), 0);
    EXPECT_EQ(held.release().broken, "");
    ASSERT_NE(daemon(), 0);
    EXPECT_NE(daemon(), before);
    EXPECT_TRUE(Cgroup::path_of(daemon()).value().starts_with("/nodesnap-daemon."));
    EXPECT_EQ(intents(), 0u);
    EXPECT_EQ(guard_cgroups(), 0u);
}

TEST_F(CommandsTest, DaemonInheritsNothingThatTheGuardHasTakenForItself) {
    start();
    const mode_t before = ::umask(077);
    Hold held(stop());
    held.hold();
    EXPECT_EQ(held.release().broken, "");
    ::umask(before);
    ASSERT_NE(daemon(), 0);
    EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(daemon())), 0);
    const std::string status = read_small_file("/proc/" + std::to_string(daemon()) + "/status").value_or("");
    EXPECT_NE(status.find("Umask:\t0022"), std::string::npos) << status;
    EXPECT_EQ(read_small_file("/proc/" + std::to_string(daemon()) + "/oom_score_adj"), "0\n");
}

TEST_F(CommandsTest, DaemonThatDidntRunIsntStarted) {
    Hold held(stop());
    EXPECT_TRUE(held.already());
    held.hold();
    EXPECT_EQ(held.release().broken, "");
    EXPECT_EQ(daemon(), 0);
}

TEST_F(CommandsTest, DaemonThatIsStartedByAnotherBreaksTheHold) {
    Hold held(stop());
    held.hold();
    start();
    EXPECT_NE(held.release().broken.find("started by something else"), std::string::npos);
}

TEST_F(CommandsTest, NodesnapIsKilledAtEveryStepAndTheDaemonRuns) {
    for (const char* step : kSteps) {
        SCOPED_TRACE(step);
        if (daemon() == 0) {
            start();
        }
        Nodesnap nodesnap(stop(), [&](test::FaultHooks& hooks) { hooks.kill_at_step(step); });
        EXPECT_EQ(nodesnap.wait(), -SIGKILL);
        if (std::string(step) == "hold.intent-written") {
            EXPECT_EQ(release_left(scratch_.path(), 0).size(), 1u);
        }
        wait_until([&] { return intents() == 0; });
        const pid_t pid = daemon();
        ASSERT_GT(pid, 0);
        ::kill(pid, SIGKILL);
        wait_until([&] { return daemon() == 0; });
        release_left(scratch_.path(), 0);
    }
}

TEST_F(CommandsTest, HooksAreToldWhatHappens) {
    Hold held(hook(note("before"), note("after")));
    held.hold();
    EXPECT_EQ(log(), "before hold backup /node\n");
    EXPECT_EQ(held.release().broken, "");
    EXPECT_EQ(log(), "before hold backup /node\nafter release done /node\n");
}

TEST_F(CommandsTest, HookAfterIsRunWhenTheOneBeforeFails) {
    Hold held(hook(note("before") + "exit 5", note("after")));
    try {
        held.hold();
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("exit status 5"), std::string::npos) << error.message();
        EXPECT_NE(error.message().find(note("before") + "exit 5"), std::string::npos) << error.message();
        EXPECT_NE(error.hint().find("by hand"), std::string::npos) << error.hint();
    }
    EXPECT_EQ(log(), "before hold backup /node\nafter release failed /node\n");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(CommandsTest, HookThatHangsIsEndedWithAllThatItHasStarted) {
    Options all = hook("sleep 1000 & echo $! > " + path("pid") + "; wait", note("after"));
    all.command_limit = std::chrono::milliseconds(200);
    Hold held(all);
    EXPECT_THROW(held.hold(), Error);
    EXPECT_EQ(log(), "after release failed /node\n");
    wait_until([&] { return daemon() == 0; });
}

TEST_F(CommandsTest, HookIsEndedWhenNodesnapIs) {
    Options all = hook("sleep 1000 & echo $! > " + path("pid") + "; wait", note("after"));
    all.command_limit = std::chrono::hours(10);
    Nodesnap nodesnap(all, [](test::FaultHooks&) {});
    wait_until([&] { return daemon() != 0; });
    ::kill(nodesnap.pid(), SIGKILL);
    nodesnap.wait();
    wait_until([&] { return intents() == 0; });
    EXPECT_EQ(log(), "after release failed /node\n");
    wait_until([&] { return daemon() == 0; });
}

TEST_F(CommandsTest, HookAfterIsToldThatNodesnapWasKilledOrTookTooLong) {
    {
        Nodesnap nodesnap(hook(note("before"), note("after")), [](test::FaultHooks& hooks) { hooks.kill_at_step("hold.held"); });
        nodesnap.wait();
        wait_until([&] { return intents() == 0; });
        EXPECT_EQ(log(), "before hold backup /node\nafter release killed /node\n");
    }
    std::filesystem::remove(path("log"));
    Options all = hook(note("before"), note("after"));
    all.max_downtime = std::chrono::milliseconds(1);
    Hold held(all);
    held.hold();
    wait_until([&] { return log().find("after") != std::string::npos; });
    EXPECT_NE(held.release().broken.find("--max-downtime"), std::string::npos);
    EXPECT_EQ(log(), "before hold backup /node\nafter release max-downtime /node\n");
}

TEST_F(CommandsTest, HookAfterIsntRunWithoutTheOneBefore) {
    for (const bool begun : {false, true}) {
        Nodesnap nodesnap(hook(note("before"), note("after")),
                          [&](test::FaultHooks& hooks) { hooks.signal_at_step(begun ? "hold.held" : "hold.guard-ready", SIGSTOP); });
        kill_both(nodesnap);
        release_left(scratch_.path(), 0);
        EXPECT_EQ(log(), begun ? "before hold backup /node\nafter release left-behind /node\n" : "");
        EXPECT_EQ(intents(), 0u);
    }
}

TEST_F(CommandsTest, OptionsThatDontGoTogetherAreRefused) {
    const auto usage = [](const Options& all) {
        try {
            Hold held(all);
            return false;
        } catch (const Error& error) {
            return error.status() == ExitStatus::kUsage;
        }
    };
    EXPECT_TRUE(usage(hook("", "")));
    Options all = stop();
    all.after_command = "";
    EXPECT_TRUE(usage(all));
    all = stop();
    all.unit = "qdbd";
    EXPECT_TRUE(usage(all));
    EXPECT_TRUE(usage(options(Mode::kFreeze)));
    EXPECT_TRUE(usage(options(Mode::kStop)));
    all = hook("true", "true");
    all.max_downtime = std::chrono::nanoseconds(0);
    EXPECT_TRUE(usage(all));
    EXPECT_EQ(intents(), 0u);
}

}  // namespace
}  // namespace nodesnap::hold
