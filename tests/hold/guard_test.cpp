// What the guard is for: nodesnap is killed, its cgroup is killed, it is stopped, at every step; and the guard itself is.
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "platform/file.h"
#include "platform/processes.h"
#include "tests/hold/hold_fixture.h"

namespace nodesnap::hold {
namespace {

class GuardTest : public HoldTest {
protected:
    void expect_all_as_before(const Daemon& daemon, const std::string& step = "") const {
        if (step == "hold.intent-written") {
            // Before there was a guard: nothing was held, and whoever comes next clears up.
            EXPECT_EQ(release_left(scratch_.path(), 0).size(), 1u);
        }
        wait_until([&] { return intents() == 0 && guard_cgroups() == 0; });
        EXPECT_FALSE(daemon.cgroup().freeze_requested());
        daemon.expect_running();
    }
    // From now until the daemon runs, in milliseconds.
    static double until_thawed(const Daemon& daemon) {
        const std::int64_t begin = monotonic_ns();
        while (daemon.cgroup().freeze_requested() || daemon.frozen()) {
        }
        return static_cast<double>(monotonic_ns() - begin) / 1e6;
    }
    static void report(const char* what, double longest_ms) {
        std::printf("[ MEASURED ] %s: the longest hold after it: %.1f ms\n", what, longest_ms);
        testing::Test::RecordProperty(what, std::to_string(longest_ms));
    }
};

// A variable of the environment that a guard sees, for one scope.
class GuardVariable {
public:
    GuardVariable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
    ~GuardVariable() { ::unsetenv(name_); }
    GuardVariable(const GuardVariable&) = delete;
    GuardVariable& operator=(const GuardVariable&) = delete;

private:
    const char* name_;
};

class GuardSignal : public GuardVariable {
public:
    GuardSignal(const std::string& step, int signal) : GuardVariable("NODESNAP_GUARD_SIGNAL_AT", step + ":" + std::to_string(signal)) {}
};

TEST_F(GuardTest, NodesnapIsKilledAtEveryStep) {
    const Daemon daemon;
    double longest = 0;
    for (const char* step : kSteps) {
        SCOPED_TRACE(step);
        Nodesnap nodesnap(freeze(daemon), [&](test::FaultHooks& hooks) { hooks.kill_at_step(step); });
        EXPECT_EQ(nodesnap.wait(), -SIGKILL);
        longest = std::max(longest, until_thawed(daemon));
        expect_all_as_before(daemon, step);
    }
    report("SIGKILL at every step", longest);
}

TEST_F(GuardTest, CgroupOfNodesnapIsKilledAtEveryStep) {
    const Daemon daemon;
    double longest = 0;
    for (const char* step : kSteps) {
        SCOPED_TRACE(step);
        Nodesnap nodesnap(freeze(daemon), [&](test::FaultHooks& hooks) { hooks.signal_at_step(step, SIGSTOP); });
        nodesnap.wait_until_stopped();
        nodesnap.kill_by_cgroup();
        EXPECT_EQ(nodesnap.wait(), -SIGKILL);
        longest = std::max(longest, until_thawed(daemon));
        expect_all_as_before(daemon, step);
    }
    report("cgroup.kill at every step", longest);
}

TEST_F(GuardTest, NodesnapIsStoppedPastTheLimitAtEveryStep) {
    const Daemon daemon;
    Options all = freeze(daemon);
    all.max_downtime = std::chrono::milliseconds(50);
    for (const char* step : kSteps) {
        SCOPED_TRACE(step);
        Nodesnap nodesnap(all, [&](test::FaultHooks& hooks) { hooks.signal_at_step(step, SIGSTOP); });
        nodesnap.wait_until_stopped();
        const std::string at = step;
        const bool asked = at == "hold.asked" || at == "hold.held" || at == "hold.releasing";
        if (asked) {
            // It has asked, so the daemon is, was or will be frozen; the guard has let go when a third look finds it so.
            wait_until([&] { return !daemon.cgroup().freeze_requested(); });
        }
        daemon.expect_running();
        ::kill(nodesnap.pid(), SIGCONT);
        const int status = nodesnap.wait();
        if (at == "hold.held" || at == "hold.releasing") {
            EXPECT_EQ(status, Nodesnap::kBroken);
        } else if (!asked) {
            EXPECT_EQ(status, 0);
        }
        expect_all_as_before(daemon);
    }
}

TEST_F(GuardTest, NodesnapIsKilledAHundredTimes) {
    const Daemon daemon;
    double longest = 0;
    for (int i = 0; i < 100; ++i) {
        Nodesnap nodesnap(freeze(daemon), [&](test::FaultHooks& hooks) { hooks.kill_at_step("hold.held"); });
        ASSERT_EQ(nodesnap.wait(), -SIGKILL);
        longest = std::max(longest, until_thawed(daemon));
        expect_all_as_before(daemon);
    }
    report("SIGKILL a hundred times", longest);
}

class FrozenFileSystem {
public:
    explicit FrozenFileSystem(int root) : root_(root) { EXPECT_EQ(::ioctl(root, FIFREEZE, 0), 0); }
    ~FrozenFileSystem() { thaw(); }
    FrozenFileSystem(const FrozenFileSystem&) = delete;
    FrozenFileSystem& operator=(const FrozenFileSystem&) = delete;
    void thaw() const { ::ioctl(root_, FITHAW, 0); }

private:
    const int root_;
};

// What writes to a frozen file system waits until it is thawed, whatever signal comes.
TEST_F(GuardTest, NodesnapIsKilledWhileAThreadCantBeInterrupted) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount mount("ext4");
    const FileDescriptor file = open_path(mount / "file", O_RDWR | O_CREAT, 0600);
    const FileDescriptor root = open_path(mount.path(), O_RDONLY | O_DIRECTORY);
    const Daemon daemon;
    const SharedCounter writing;
    const FrozenFileSystem frozen(root.get());
    Nodesnap nodesnap(freeze(daemon), [&](test::FaultHooks& hooks) {
        hooks.on_each_step([&](const std::string& step) {
            if (step == "hold.held") {
                std::thread([&] {
                    writing.set(static_cast<std::uint64_t>(::gettid()));
                    ::pwrite(file.get(), "x", 1, 0);
                }).detach();
                ::pause();
            }
        });
    });
    const auto state = [&] {
        std::ifstream stat("/proc/" + std::to_string(writing.get()) + "/stat");
        return std::string(std::istreambuf_iterator<char>(stat), {});
    };
    wait_until([&] { return writing.get() != 0 && state().find(") D ") != std::string::npos; });
    ::kill(nodesnap.pid(), SIGKILL);
    const double longest = until_thawed(daemon);
    daemon.expect_running();
    EXPECT_NE(state().find(") D "), std::string::npos) << "it has ended before: nothing was tested";
    report("SIGKILL of one that can't be interrupted", longest);
    frozen.thaw();
    EXPECT_EQ(nodesnap.wait(), -SIGKILL);
    expect_all_as_before(daemon);
}

TEST_F(GuardTest, GuardIsKilledAtEveryStepAndNodesnapLetsGo) {
    const Daemon daemon;
    for (const char* step : {"guard.started", "guard.ready", "guard.holding", "hold.freeze", "hold.freezing", "hold.frozen", "guard.held",
                             "guard.releasing", "guard.released", "guard.intent-removed"}) {
        SCOPED_TRACE(step);
        const GuardSignal signal(step, SIGKILL);
        Nodesnap nodesnap(freeze(daemon), [](test::FaultHooks&) {});
        const int status = nodesnap.wait();
        const bool was_done = std::string(step) == "guard.intent-removed";
        EXPECT_EQ(status, was_done ? 0 : 1);
        expect_all_as_before(daemon);
    }
}

TEST_F(GuardTest, GuardThatGetsNoMemoryLetsGo) {
    const Daemon daemon;
    for (const char* step : {"guard.holding", "hold.freezing", "hold.frozen", "guard.held", "guard.releasing"}) {
        for (const bool killed : {false, true}) {
            SCOPED_TRACE(std::string(step) + (killed ? ", nodesnap killed" : ""));
            const GuardVariable no_memory("NODESNAP_GUARD_NO_MEMORY_AT", step);
            Nodesnap nodesnap(freeze(daemon), [&](test::FaultHooks& hooks) {
                if (killed) {
                    hooks.kill_at_step("hold.asked");
                }
            });
            nodesnap.wait();
            wait_until([&] { return !daemon.cgroup().freeze_requested(); });
            daemon.expect_running();
            // Its intent may have needed memory to be removed.
            wait_until([&] {
                const auto left = release_left(scratch_.path(), 0);
                return std::all_of(left.begin(), left.end(), [](const Left& each) { return each.state != Left::State::kHeld; });
            });
            expect_all_as_before(daemon);
        }
    }
}

TEST_F(GuardTest, ThawThatFailsIsTriedUntilItDoesnt) {
    const Daemon daemon;
    for (const bool killed : {false, true}) {
        const GuardVariable failing("NODESNAP_GUARD_FAIL", "cgroup-thaw:250");
        Nodesnap nodesnap(freeze(daemon), [&](test::FaultHooks& hooks) {
            if (killed) {
                hooks.kill_at_step("hold.held");
            }
        });
        EXPECT_EQ(nodesnap.wait(), killed ? -SIGKILL : 1);
        expect_all_as_before(daemon);
    }
}

TEST_F(GuardTest, GuardThatIsStoppedIsEndedByNodesnap) {
    const Daemon daemon;
    for (const char* step : {"hold.frozen", "guard.releasing"}) {
        SCOPED_TRACE(step);
        const GuardSignal signal(step, SIGSTOP);
        Nodesnap nodesnap(freeze(daemon), [](test::FaultHooks&) {});
        EXPECT_EQ(nodesnap.wait(), 1);
        expect_all_as_before(daemon);
    }
}

TEST_F(GuardTest, BothAreKilledAndReleaseLetsGo) {
    const Daemon daemon;
    for (const bool by_next_hold : {false, true}) {
        Nodesnap nodesnap(freeze(daemon), [](test::FaultHooks& hooks) { hooks.signal_at_step("hold.held", SIGSTOP); });
        nodesnap.wait_until_stopped();
        const auto its_guard = guard();
        ASSERT_TRUE(its_guard && its_guard->signal(SIGKILL));
        EXPECT_TRUE(its_guard->wait_ended(INT64_MAX));
        ::kill(nodesnap.pid(), SIGKILL);
        nodesnap.wait();
        daemon.expect_standing();
        if (by_next_hold) {
            Hold next(freeze(daemon));
            ASSERT_FALSE(next.warnings().empty());
            EXPECT_NE(next.warnings()[0].find("was still held"), std::string::npos);
            EXPECT_FALSE(next.already()) << "what the killed one has frozen isn't the previous state";
            next.hold();
            EXPECT_EQ(next.release().broken, "");
        } else {
            const auto left = release_left(scratch_.path(), 0);
            ASSERT_EQ(left.size(), 1u);
            EXPECT_EQ(left[0].state, Left::State::kReleased);
            EXPECT_EQ(left[0].what, "cgroup " + daemon.cgroup().path());
        }
        expect_all_as_before(daemon);
    }
}

TEST_F(GuardTest, StoppedGuardOfAKilledNodesnapIsWokenByRelease) {
    const Daemon daemon;
    Nodesnap nodesnap(freeze(daemon), [](test::FaultHooks& hooks) { hooks.signal_at_step("hold.held", SIGSTOP); });
    nodesnap.wait_until_stopped();
    const auto its_guard = guard();
    ASSERT_TRUE(its_guard && its_guard->signal(SIGSTOP));
    ::kill(nodesnap.pid(), SIGKILL);
    nodesnap.wait();
    daemon.expect_standing();
    const auto left = release_left(scratch_.path(), std::int64_t{60} * 1'000'000'000);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kNothing) << "the guard has done it";
    expect_all_as_before(daemon);
}

TEST_F(GuardTest, ReleaseLeavesWhatALivingNodesnapHolds) {
    const Daemon daemon;
    Hold held(freeze(daemon));
    held.hold();
    const auto left = release_left(scratch_.path(), 0);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].state, Left::State::kHeld);
    EXPECT_EQ(left[0].pid, ::getpid());
    daemon.expect_standing();
    EXPECT_EQ(held.release().broken, "");
}

TEST_F(GuardTest, SaysWhatItIs) {
    const Daemon daemon;
    const Hold held(freeze(daemon));
    const auto its_guard = guard();
    ASSERT_TRUE(its_guard);
    EXPECT_EQ(process_command(its_guard->pid()), "nodesnap-guard");
    const std::string line = read_small_file("/proc/" + std::to_string(its_guard->pid()) + "/cmdline").value_or("");
    EXPECT_TRUE(line.starts_with("nodesnap")) << line;
    EXPECT_NE(line.find("freeze-"), std::string::npos) << line;
}

TEST_F(GuardTest, SignalsThatEndOthersDontEndTheGuard) {
    const Daemon daemon;
    Hold held(freeze(daemon));
    held.hold();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        const auto its_guard = guard();
        ASSERT_TRUE(its_guard && its_guard->signal(signal));
    }
    EXPECT_EQ(held.release().broken, "");
    expect_all_as_before(daemon);
}

}  // namespace
}  // namespace nodesnap::hold
