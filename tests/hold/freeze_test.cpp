// Holding by the freezer: what is held, what isn't, and how it is told that a hold hasn't lasted.
#include <fcntl.h>
#include <sys/prctl.h>

#include "platform/file.h"
#include "snapshot/hold/refusals.h"
#include "tests/hold/hold_fixture.h"

namespace nodesnap::hold {
namespace {

using test::HolderProcess;
using test::TestCgroup;

class FreezeTest : public HoldTest {};

std::string refusal(const Options& options) {
    try {
        Hold held(options);
        return "";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kRefused) << error.message();
        return error.message();
    }
}

TEST_F(FreezeTest, DaemonStandsFromHoldToRelease) {
    const Daemon daemon;
    Hold held(freeze(daemon));
    EXPECT_EQ(held.what(), "cgroup " + daemon.cgroup().path());
    for (const std::string& warning : held.warnings()) {
        EXPECT_EQ(warning, "the guard runs without protection from the OOM killer") << "which containers don't allow";
    }
    EXPECT_EQ(intents(), 1u);
    daemon.expect_running();
    held.hold();
    daemon.expect_standing();
    const Result result = held.release();
    EXPECT_EQ(result.broken, "");
    EXPECT_TRUE(result.point_in_time);
    EXPECT_FALSE(held.release().point_in_time) << "only once, of that hold";
    EXPECT_GT(result.downtime.count(), 0);
    daemon.expect_running();
    EXPECT_FALSE(daemon.cgroup().freeze_requested());
    EXPECT_EQ(intents(), 0u);
    EXPECT_EQ(guard_cgroups(), 0u);
}

TEST_F(FreezeTest, LeavingTheScopeLetsGo) {
    const Daemon daemon;
    {
        Hold held(freeze(daemon));
        held.hold();
    }
    daemon.expect_running();
    { const Hold never_held(freeze(daemon)); }
    daemon.expect_running();
    EXPECT_EQ(intents(), 0u);
    EXPECT_EQ(guard_cgroups(), 0u);
}

TEST_F(FreezeTest, NoneHoldsNothing) {
    Hold held(options(Mode::kNone));
    held.hold();
    const Result result = held.release();
    EXPECT_EQ(result.downtime.count(), 0);
    EXPECT_FALSE(result.point_in_time);
    EXPECT_EQ(intents(), 0u);
}

TEST_F(FreezeTest, WhatWasFrozenBeforeStaysFrozen) {
    const Daemon daemon;
    auto cgroup = Cgroup::open(daemon.cgroup().path());
    cgroup->request_freeze(true);
    {
        Hold held(freeze(daemon));
        EXPECT_TRUE(held.already());
        EXPECT_NE(held.warnings().at(0).find("was frozen before"), std::string::npos);
        held.hold();
        EXPECT_EQ(held.release().broken, "");
        daemon.expect_standing();
    }
    daemon.expect_standing();
    EXPECT_TRUE(daemon.cgroup().freeze_requested());
    EXPECT_EQ(intents(), 0u);
    cgroup->request_freeze(false);
}

TEST_F(FreezeTest, WhatSomebodyFreezesWhileTheBackupIsPreparedStaysFrozenAndIsAnError) {
    const Daemon daemon;
    auto cgroup = Cgroup::open(daemon.cgroup().path());
    Hold held(freeze(daemon));
    cgroup->request_freeze(true);
    EXPECT_THROW(held.hold(), Error);
    daemon.expect_standing();
    EXPECT_EQ(intents(), 0u);
    cgroup->request_freeze(false);
}

TEST_F(FreezeTest, AncestorsStateStays) {
    const TestCgroup above;
    const TestCgroup below(above.path() + "/below");
    const HolderProcess member([&] { return below.enter(); });
    Cgroup::open(above.path())->request_freeze(true);
    Options all = options(Mode::kFreeze);
    all.pid = member.pid();
    Hold held(all);
    EXPECT_FALSE(held.already());
    held.hold();
    EXPECT_EQ(held.release().broken, "");
    EXPECT_TRUE(above.freeze_requested());
    EXPECT_FALSE(below.freeze_requested());
    Cgroup::open(above.path())->request_freeze(false);
}

TEST_F(FreezeTest, ThawByAnotherBreaksTheHold) {
    const Daemon daemon;
    Hold held(freeze(daemon));
    held.hold();
    Cgroup::open(daemon.cgroup().path())->request_freeze(false);
    EXPECT_NE(held.release().broken.find("thawed by something else"), std::string::npos);
    daemon.expect_running();
}

TEST_F(FreezeTest, ThawAndFreezeAgainBreaksTheHold) {
    const Daemon daemon;
    Hold held(freeze(daemon));
    held.hold();
    auto cgroup = Cgroup::open(daemon.cgroup().path());
    cgroup->request_freeze(false);
    cgroup->request_freeze(true);
    wait_until([&] { return daemon.frozen(); });
    const Result result = held.release();
    EXPECT_FALSE(result.point_in_time);
    EXPECT_NE(result.broken.find("thawed by something else"), std::string::npos);
    daemon.expect_running();
}

TEST_F(FreezeTest, MemberThatIsMovedOutBreaksTheHold) {
    const Daemon daemon;
    const TestCgroup elsewhere;
    Hold held(freeze(daemon));
    held.hold();
    for (const pid_t pid : Cgroup::open(daemon.cgroup().path())->processes()) {
        if (pid != daemon.pid()) {
            Cgroup::open(elsewhere.path())->move_here(pid);
        }
    }
    EXPECT_NE(held.release().broken.find("moved out"), std::string::npos);
}

TEST_F(FreezeTest, CgroupThatIsRemovedBreaksTheHold) {
    auto daemon = std::make_unique<Daemon>();
    Hold held(freeze(*daemon));
    held.hold();
    daemon.reset();
    EXPECT_NE(held.release().broken.find("removed"), std::string::npos);
    EXPECT_EQ(intents(), 0u);
}

TEST_F(FreezeTest, MemberThatWasKilledWhileFrozenBreaksNothing) {
    const Daemon daemon;
    const HolderProcess member([&] { return daemon.cgroup().enter(); });
    Hold held(freeze(daemon));
    held.hold();
    ::kill(member.pid(), SIGKILL);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(member.pid()), &info, WEXITED | WNOWAIT);
    EXPECT_EQ(held.release().broken, "");
}

TEST_F(FreezeTest, ProcessThatLeavesBeforeTheHoldIsAnError) {
    const Daemon daemon;
    const TestCgroup elsewhere;
    Hold held(freeze(daemon));
    Cgroup::open(elsewhere.path())->move_here(daemon.pid());
    EXPECT_THROW(held.hold(), Error);
    EXPECT_FALSE(daemon.cgroup().freeze_requested());
    EXPECT_EQ(intents(), 0u);
}

// A member of the daemon's cgroup that waits in the kernel, and doesn't freeze, as long as this lives.
class HangingMember {
public:
    explicit HangingMember(const Daemon& daemon) : daemon_(daemon) {
        const auto cgroup = Cgroup::open(daemon.cgroup().path());
        wait_until([&] {
            for (const pid_t pid : cgroup->processes()) {
                if (read_small_file("/proc/" + std::to_string(pid) + "/stat").value_or("").find(") D ") != std::string::npos) {
                    hanging_ = Pidfd::open(pid);
                    return true;
                }
            }
            return false;
        });
    }
    ~HangingMember() {
        test::run({"fsfreeze", "-u", mount_.path()});
        hanging_->wait_ended(INT64_MAX);  // before it is unmounted
    }
    HangingMember(const HangingMember&) = delete;
    HangingMember& operator=(const HangingMember&) = delete;

private:
    bool hang() const {
        test::run({"fsfreeze", "-f", mount_.path()});
        if (::fork() != 0) {
            return true;
        }
        const bool entered = daemon_.cgroup().enter();
        ::_exit(entered && ::open((mount_ / "file").c_str(), O_CREAT | O_WRONLY, 0600) >= 0 ? 0 : 1);
    }
    std::optional<Pidfd> hanging_;
    const Daemon& daemon_;
    const test::LoopMount mount_{"ext4", std::uint64_t{64} << 20};
    const HolderProcess process_{[this] { return hang(); }};
};

TEST_F(FreezeTest, IsGivenUpWhenNodesnapEndsBeforeAllIsFrozen) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const Daemon daemon;
    const HangingMember hangs(daemon);
    Options all = freeze(daemon);
    all.max_downtime = std::chrono::hours(10);
    Nodesnap nodesnap(all, [](test::FaultHooks&) {});
    wait_until([&] { return daemon.cgroup().freeze_requested(); });
    ::kill(nodesnap.pid(), SIGKILL);
    nodesnap.wait();
    wait_until([&] { return !daemon.cgroup().freeze_requested(); });
    daemon.expect_running();
    wait_until([&] { return intents() == 0; });
}

TEST_F(FreezeTest, GivesUpOnWhatDoesntFreezeInTime) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const Daemon daemon;
    const HangingMember hangs(daemon);
    Options all = freeze(daemon);
    all.max_downtime = std::chrono::milliseconds(100);
    Hold held(all);
    try {
        held.hold();
        ADD_FAILURE() << "it was frozen";
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("did not freeze in time"), std::string::npos) << error.message();
    }
    EXPECT_FALSE(daemon.cgroup().freeze_requested());
    daemon.expect_running();
    EXPECT_EQ(intents(), 0u);
}

TEST_F(FreezeTest, SecondOneIsRefusedOrWaits) {
    const Daemon daemon;
    auto first = std::make_unique<Hold>(freeze(daemon));
    first->hold();
    EXPECT_NE(refusal(freeze(daemon)).find("held by another nodesnap, process " + std::to_string(::getpid())), std::string::npos);
    Options patient = freeze(daemon);
    patient.wait_for_others = std::chrono::seconds(60);
    Nodesnap second(patient, [](test::FaultHooks&) {});
    EXPECT_EQ(first->release().broken, "");
    first.reset();
    EXPECT_EQ(second.wait(), 0);
    daemon.expect_running();
}

TEST_F(FreezeTest, CgroupsAboveAndBelowAreTheSameOnesAndThoseBesideArent) {
    const TestCgroup above;
    const TestCgroup below(above.path() + "/below");
    const TestCgroup beside(above.path() + "/beside");
    const HolderProcess in_above([&] { return above.enter(); });
    const HolderProcess in_below([&] { return below.enter(); });
    const HolderProcess in_beside([&] { return beside.enter(); });
    const auto freeze_pid = [&](pid_t pid) {
        Options all = options(Mode::kFreeze);
        all.pid = pid;
        return all;
    };
    {
        Hold held(freeze_pid(in_below.pid()));
        EXPECT_NE(refusal(freeze_pid(in_above.pid())).find("above or below"), std::string::npos);
        Hold other(freeze_pid(in_beside.pid()));
        held.hold();
        other.hold();
        EXPECT_TRUE(below.frozen() && beside.frozen());
    }
    const Hold held(freeze_pid(in_above.pid()));
    EXPECT_NE(refusal(freeze_pid(in_below.pid())).find("above or below"), std::string::npos);
}

TEST_F(FreezeTest, RefusesItselfAndWhatItWasStartedFrom) {
    const TestCgroup made;
    const auto refused_inside = [&](bool in_child) {
        const pid_t child = ::fork();
        if (child == 0) {
            bool refused = made.enter();
            if (in_child) {
                // A child that is elsewhere, but was started from here.
                const pid_t grandchild = ::fork();
                if (grandchild == 0) {
                    bool right = false;
                    {
                        const TestCgroup elsewhere;
                        Options all = options(Mode::kFreeze);
                        all.pid = ::getppid();
                        right = elsewhere.enter() && refusal(all).find("which nodesnap was started from") != std::string::npos;
                        Cgroup::open("/")->move_here(::getpid());
                    }
                    ::_exit(right ? 0 : 1);
                }
                int status = 0;
                ::waitpid(grandchild, &status, 0);
                refused = refused && status == 0;
            } else {
                Options all = options(Mode::kFreeze);
                all.pid = ::getpid();
                refused = refused && refusal(all).find("nodesnap itself") != std::string::npos;
            }
            ::_exit(refused ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return status == 0;
    };
    EXPECT_TRUE(refused_inside(false));
    EXPECT_TRUE(refused_inside(true));
    EXPECT_EQ(intents(), 0u);
}

TEST_F(FreezeTest, RefusesTheTopAndWhatTheHostNeeds) {
    const HolderProcess at_the_top([] { return true; });
    Cgroup::open("/")->move_here(at_the_top.pid());
    Options all = options(Mode::kFreeze);
    all.pid = at_the_top.pid();
    EXPECT_NE(refusal(all).find("it is the top"), std::string::npos);

    const TestCgroup above;
    const TestCgroup below(above.path() + "/below");
    for (const char* name : {"sshd", "dbus-daemon", "systemd-journald"}) {
        const HolderProcess vital([&] { return below.enter() && ::prctl(PR_SET_NAME, name) == 0; });
        const HolderProcess daemon([&] { return above.enter(); });
        all.pid = daemon.pid();
        EXPECT_NE(refusal(all).find("which the host can't do without"), std::string::npos) << name;
    }
    EXPECT_TRUE(vital_name("qdbd").empty());
    EXPECT_TRUE(vital_name("postgres").empty());
    EXPECT_EQ(intents(), 0u);
}

TEST_F(FreezeTest, VitalProcessThatComesLaterIsRefusedBeforeItIsFrozen) {
    const Daemon daemon;
    Hold held(freeze(daemon));
    const HolderProcess vital([&] { return daemon.cgroup().enter() && ::prctl(PR_SET_NAME, "sshd") == 0; });
    EXPECT_THROW(held.hold(), Error);
    EXPECT_FALSE(daemon.cgroup().freeze_requested());
}

TEST_F(FreezeTest, PidThatHasEndedIsRefused) {
    pid_t pid = 0;
    {
        const Daemon daemon;
        pid = daemon.pid();
    }
    Options all = options(Mode::kFreeze);
    all.pid = pid;
    EXPECT_NE(refusal(all).find("there is no process"), std::string::npos);
}

TEST_F(FreezeTest, GuardThatCantBeStartedIsAnErrorBeforeAnythingIsHeld) {
    const Daemon daemon;
    Options all = freeze(daemon);
    all.guard_program = {"/nonexistent/guard"};
    EXPECT_THROW(Hold{all}, Error);
    EXPECT_EQ(intents(), 0u);
    EXPECT_EQ(guard_cgroups(), 0u);
}

}  // namespace
}  // namespace nodesnap::hold
