// Holding by stopping a unit. systemctl is a stand-in: no machine of the tests runs systemd.
#include <cstdlib>

#include "platform/file.h"
#include "snapshot/hold/service.h"
#include "tests/hold/hold_fixture.h"

namespace nodesnap::hold {
namespace {

class StopTest : public HoldTest {
protected:
    void SetUp() override {
        std::filesystem::create_directory(units());
        ::setenv("STAND_IN_UNITS", units().c_str(), 1);
        set("qdbd.service", "active");
    }
    void TearDown() override { ::unsetenv("STAND_IN_UNITS"); }

    std::string units() const { return scratch_ / "units"; }
    void set(const std::string& file, const std::string& content) const { write_file_durably(units() + "/" + file, content); }
    std::string state(const std::string& unit = "qdbd.service") const {
        std::string text = read_small_file(units() + "/" + unit).value_or("");
        return text.substr(0, text.find('\n'));
    }
    std::string calls() const { return read_small_file(units() + "/calls").value_or(""); }
    Options stop() const {
        Options all = options(Mode::kStop);
        all.unit = "qdbd";
        all.systemctl = NODESNAP_SYSTEMCTL;
        return all;
    }
    static std::string error_of(const std::function<void()>& call, ExitStatus status) {
        try {
            call();
            return "";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), status) << error.message();
            return error.message();
        }
    }
};

TEST_F(StopTest, UnitIsDownFromHoldToRelease) {
    Hold held(stop());
    EXPECT_EQ(held.what(), "unit qdbd.service");
    EXPECT_EQ(calls(), "");
    held.hold();
    EXPECT_EQ(state(), "inactive");
    EXPECT_EQ(held.release().broken, "");
    EXPECT_EQ(state(), "active");
    EXPECT_EQ(calls(), "stop qdbd.service\nstart qdbd.service\n");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, WhatWasDownStaysDown) {
    for (const char* before : {"inactive", "failed"}) {
        set("qdbd.service", before);
        Hold held(stop());
        EXPECT_TRUE(held.already());
        held.hold();
        EXPECT_EQ(held.release().broken, "");
        EXPECT_EQ(state(), before);
    }
    EXPECT_EQ(calls(), "");
    Options freeze = stop();
    freeze.mode = Mode::kFreeze;
    Hold held(freeze);
    EXPECT_TRUE(held.already());
    held.hold();
    EXPECT_EQ(held.release().broken, "");
}

TEST_F(StopTest, UnitsThatGoDownWithItAreStartedWithIt) {
    set("qdbd.service.requiredby", "api.service idle.service");
    set("api.service", "active");
    set("api.service.requiredby", "web.service qdbd.service");
    set("web.service", "active");
    set("idle.service", "inactive");
    Hold held(stop());
    held.hold();
    held.release();
    EXPECT_EQ(calls(), "stop qdbd.service\nstart qdbd.service api.service web.service\n");
    EXPECT_EQ(state("idle.service"), "inactive");
}

TEST_F(StopTest, UnitBetweenStatesOrUnknownIsRefused) {
    set("qdbd.service", "deactivating");
    EXPECT_NE(error_of([&] { Hold held(stop()); }, ExitStatus::kRefused).find("is deactivating"), std::string::npos);
    Options other = stop();
    other.unit = "nothing";
    EXPECT_NE(error_of([&] { Hold held(other); }, ExitStatus::kRefused).find("there is no unit"), std::string::npos);
    other.unit = "-x";
    error_of([&] { Hold held(other); }, ExitStatus::kUsage);
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, WatchdogThatWouldEndAFrozenDaemonIsRefused) {
    NODESNAP_NEEDS_CGROUPS();
    const Daemon daemon;
    set("qdbd.service.properties", "ControlGroup=" + daemon.cgroup().path() + "\nWatchdogUSec=1min\n");
    Options freeze = stop();
    freeze.mode = Mode::kFreeze;
    EXPECT_NE(error_of([&] { Hold held(freeze); }, ExitStatus::kRefused).find("watchdog"), std::string::npos);
    freeze.max_downtime = std::chrono::seconds(59);
    Hold held(freeze);
    held.hold();
    daemon.expect_standing();
    EXPECT_EQ(held.release().broken, "");
    daemon.expect_running();
    EXPECT_EQ(calls(), "");
}

TEST_F(StopTest, StopThatFailsHalfWayIsFollowedByAStart) {
    set("qdbd.service.stop", "echo failed > qdbd.service; echo 'it broke' >&2; exit 1");
    Hold held(stop());
    const std::string message = error_of([&] { held.hold(); }, ExitStatus::kFailed);
    EXPECT_NE(message.find("it broke"), std::string::npos) << message;
    EXPECT_EQ(state(), "active");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, StopThatEndsInAKillIsNoGracefulOne) {
    for (const char* result : {"timeout", "signal", "core-dump", "exit-code", "success"}) {
        SCOPED_TRACE(result);
        set("qdbd.service.stop", std::string("echo failed > qdbd.service; echo Result=") + result + " > qdbd.service.properties");
        const bool killed = std::string(result) != "exit-code" && std::string(result) != "success";
        Hold held(stop());
        const std::string message = error_of([&] { held.hold(); }, ExitStatus::kFailed);
        EXPECT_EQ(message.find("did not stop gracefully") != std::string::npos, killed) << message;
        EXPECT_EQ(held.release().point_in_time, !killed);
        EXPECT_EQ(state(), "active");
    }
}

TEST_F(StopTest, StopTimeoutIsFollowedByAStart) {
    set("qdbd.service.stop", "sleep 1000");
    Options all = stop();
    all.stop_timeout = std::chrono::milliseconds(100);
    Hold held(all);
    EXPECT_NE(error_of([&] { held.hold(); }, ExitStatus::kFailed).find("too long"), std::string::npos);
    EXPECT_EQ(calls(), "stop qdbd.service\nstart qdbd.service\n");
}

TEST_F(StopTest, StartIsTriedAgain) {
    set("qdbd.service.start", "test -e once || { touch once; exit 1; }; echo active > qdbd.service");
    Hold held(stop());
    held.hold();
    EXPECT_EQ(held.release().broken, "");
    EXPECT_EQ(state(), "active");
}

TEST_F(StopTest, GuardGoesOnTryingToStartWhatDoesntStart) {
    NODESNAP_NEEDS_CGROUPS();
    set("qdbd.service.start", "exit 1");
    {
        Hold held(stop());
        held.hold();
        EXPECT_NE(error_of([&] { held.release(); }, ExitStatus::kFailed).find("goes on trying"), std::string::npos);
    }
    const auto left = release_left(scratch_.path(), 0);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kHeld);
    EXPECT_EQ(state(), "inactive");
    std::filesystem::remove(units() + "/qdbd.service.start");
    wait_until([&] { return intents() == 0; });
    EXPECT_EQ(state(), "active");
    EXPECT_NE(calls().find("reset-failed qdbd.service\nstart qdbd.service\n"), std::string::npos);
}

TEST_F(StopTest, UnitThatCantBeStartedByTheGuardIsLeftToRelease) {
    NODESNAP_NEEDS_CGROUPS();
    set("qdbd.service.start", "exit 1");
    {
        Hold held(stop());
        held.hold();
        EXPECT_NE(error_of([&] { held.release(); }, ExitStatus::kFailed).find("cannot start unit qdbd.service"), std::string::npos);
    }
    EXPECT_EQ(intents(), 1u);
    const auto its_guard = guard();
    ASSERT_TRUE(its_guard && its_guard->signal(SIGKILL));
    EXPECT_TRUE(its_guard->wait_ended(INT64_MAX));
    auto left = release_left(scratch_.path(), INT64_MAX / 2);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kFailed);
    EXPECT_EQ(intents(), 1u);
    std::filesystem::remove(units() + "/qdbd.service.start");
    left = release_left(scratch_.path(), 0);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kReleased);
    EXPECT_EQ(state(), "active");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, UnitThatIsStartedByAnotherBreaksTheHold) {
    Hold held(stop());
    held.hold();
    set("qdbd.service", "active");
    EXPECT_NE(held.release().broken.find("started by something else"), std::string::npos);
}

TEST_F(StopTest, UnitThatRanForAMomentBreaksTheHold) {
    set("qdbd.service.properties", "ActiveEnterTimestampMonotonic=1000\n");
    Hold held(stop());
    held.hold();
    set("qdbd.service.properties", "ActiveEnterTimestampMonotonic=2000\n");
    EXPECT_NE(held.release().broken.find("started by something else"), std::string::npos);
}

TEST_F(StopTest, UnitThatIsStoppedByAnotherBeforeTheHoldStaysDown) {
    Hold held(stop());
    set("qdbd.service", "inactive");
    EXPECT_NE(error_of([&] { held.hold(); }, ExitStatus::kFailed).find("while the backup was prepared"), std::string::npos);
    EXPECT_EQ(calls(), "");
    EXPECT_EQ(state(), "inactive");
}

TEST_F(StopTest, NodesnapIsKilledAtEveryStep) {
    for (const char* step : kSteps) {
        SCOPED_TRACE(step);
        Nodesnap nodesnap(stop(), [&](test::FaultHooks& hooks) { hooks.kill_at_step(step); });
        EXPECT_EQ(nodesnap.wait(), -SIGKILL);
        if (std::string(step) == "hold.intent-written") {
            EXPECT_EQ(release_left(scratch_.path(), 0).size(), 1u);
        }
        wait_until([&] { return intents() == 0; });
        EXPECT_EQ(state(), "active");
    }
}

TEST_F(StopTest, NodesnapIsStoppedPastTheLimitAndTheUnitIsStarted) {
    Options all = stop();
    all.max_downtime = std::chrono::milliseconds(50);
    Nodesnap nodesnap(all, [](test::FaultHooks& hooks) { hooks.signal_at_step("hold.held", SIGSTOP); });
    nodesnap.wait_until_stopped();
    wait_until([&] { return state() == "active"; });
    ::kill(nodesnap.pid(), SIGCONT);
    EXPECT_EQ(nodesnap.wait(), Nodesnap::kBroken);
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, GracefulStopIsntCutShortWhenNodesnapIsKilledAndTheUnitIsStartedAfterIt) {
    ::mkfifo((units() + "/go").c_str(), 0600);
    set("qdbd.service.stop", "touch stopping; read line < go; echo inactive > qdbd.service; echo stopped >> calls");
    Nodesnap nodesnap(stop(), [](test::FaultHooks&) {});
    wait_until([&] { return stat_path(units() + "/stopping").has_value(); });
    ::kill(nodesnap.pid(), SIGKILL);
    nodesnap.wait();
    EXPECT_EQ(state(), "active");
    write_all(open_path(units() + "/go", O_WRONLY).get(), std::as_bytes(std::span("x\n", 2)), "fifo");
    wait_until([&] { return intents() == 0; });
    EXPECT_EQ(calls(), "stop qdbd.service\nstopped\nstart qdbd.service\n");
    EXPECT_EQ(state(), "active");
}

TEST_F(StopTest, StopOfAKilledGuardIsWaitedForBeforeTheUnitIsStarted) {
    NODESNAP_NEEDS_CGROUPS();
    ::mkfifo((units() + "/go").c_str(), 0600);
    set("qdbd.service.stop", "touch stopping; read line < go; echo inactive > qdbd.service; echo stopped >> calls");
    for (const bool nodesnap_too : {false, true}) {
        set("qdbd.service", "active");
        std::filesystem::remove(units() + "/stopping");
        std::filesystem::remove(units() + "/calls");
        Nodesnap nodesnap(stop(), [](test::FaultHooks&) {});
        wait_until([&] { return stat_path(units() + "/stopping").has_value(); });
        const auto its_guard = guard();
        ASSERT_TRUE(its_guard);
        if (nodesnap_too) {
            ::kill(nodesnap.pid(), SIGKILL);
            nodesnap.wait();
        }
        its_guard->signal(SIGKILL);
        EXPECT_TRUE(its_guard->wait_ended(INT64_MAX));
        if (nodesnap_too) {
            const auto left = release_left(scratch_.path(), 0);
            ASSERT_EQ(left.size(), 1u);
            EXPECT_EQ(left[0].state, Left::State::kHeld);
        }
        write_all(open_path(units() + "/go", O_WRONLY).get(), std::as_bytes(std::span("x\n", 2)), "fifo");
        if (nodesnap_too) {
            EXPECT_EQ(release_left(scratch_.path(), INT64_MAX / 2).at(0).state, Left::State::kReleased);
        } else {
            EXPECT_EQ(nodesnap.wait(), 1);
        }
        EXPECT_EQ(calls(), "stop qdbd.service\nstopped\nstart qdbd.service\n");
        EXPECT_EQ(state(), "active");
    }
}

TEST_F(StopTest, WhatARebootLeftDownIsStartedByRelease) {
    Intent intent;
    intent.id = "00000000000000aa";
    intent.mode = Mode::kStop;
    intent.phase = Phase::kBegun;
    intent.what = "unit qdbd.service";
    intent.unit = "qdbd.service";
    intent.systemctl = NODESNAP_SYSTEMCTL;
    intent.boot_id = "another boot";
    intent.command_limit_ns = 60'000'000'000;
    set("qdbd.service", "inactive");
    IntentFile::lock(scratch_.path(), intent_name(Mode::kStop, "qdbd.service"), 0)->write(intent);
    const auto left = release_left(scratch_.path(), 0);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kReleased);
    EXPECT_EQ(state(), "active");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, WhatWasNeverStoppedIsntStarted) {
    NODESNAP_NEEDS_CGROUPS();
    Nodesnap nodesnap(stop(), [&](test::FaultHooks& hooks) { hooks.signal_at_step("hold.guard-ready", SIGSTOP); });
    kill_both(nodesnap);
    set("qdbd.service", "inactive");  // the operator's
    const auto left = release_left(scratch_.path(), 0);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kNothing);
    EXPECT_EQ(calls(), "");
    EXPECT_EQ(intents(), 0u);
}

TEST_F(StopTest, HoldThatWasLeftUnderAnotherModeIsUndoneByTheNext) {
    NODESNAP_NEEDS_CGROUPS();
    {
        Nodesnap nodesnap(stop(), [&](test::FaultHooks& hooks) { hooks.signal_at_step("hold.held", SIGSTOP); });
        kill_both(nodesnap);
    }
    set("qdbd.service.start", "exit 1");
    Options next = options(Mode::kHook);
    next.before_command = next.after_command = "true";
    EXPECT_NE(error_of([&] { Hold held(next); }, ExitStatus::kFailed).find("may still be held"), std::string::npos);
    next.node_directory = "/another";
    { EXPECT_NE(Hold(next).warnings().at(0).find("could not be let go"), std::string::npos); }
    std::filesystem::remove(units() + "/qdbd.service.start");
    Hold held(next);
    EXPECT_NE(held.warnings().at(0).find("was still held"), std::string::npos);
    EXPECT_EQ(state(), "active");
    EXPECT_EQ(intents(), 1u);
}

TEST_F(StopTest, WhatSomebodyHasStartedSinceIsntStartedAgain) {
    NODESNAP_NEEDS_CGROUPS();
    set("qdbd.service.properties", "ActiveEnterTimestampMonotonic=1000\n");
    for (const bool started : {false, true}) {
        Nodesnap nodesnap(stop(), [&](test::FaultHooks& hooks) { hooks.signal_at_step("hold.held", SIGSTOP); });
        kill_both(nodesnap);
        EXPECT_EQ(state(), "inactive");
        if (started) {
            set("qdbd.service.properties", "ActiveEnterTimestampMonotonic=2000\n");  // and stopped again, for a restore
        }
        ASSERT_EQ(release_left(scratch_.path(), 0).size(), 1u);
        EXPECT_EQ(state(), started ? "inactive" : "active");
        EXPECT_EQ(intents(), 0u);
    }
}

TEST(Service, SpansOfTimeAreUnderstood) {
    EXPECT_EQ(parse_systemd_span("3min 20s"), 200'000'000'000);
    EXPECT_EQ(parse_systemd_span("1.500s"), 1'500'000'000);
    EXPECT_FALSE(parse_systemd_span("0"));
    EXPECT_FALSE(parse_systemd_span("infinity"));
    EXPECT_FALSE(parse_systemd_span(""));
}

}  // namespace
}  // namespace nodesnap::hold
