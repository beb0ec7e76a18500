#include "platform/cgroup.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/pidfd.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"
#include "tests/support/test_cgroup.h"

namespace nodesnap {
namespace {

using test::HolderProcess;
using test::TestCgroup;

constexpr std::int64_t kLongNs = 30'000'000'000;

std::int64_t soon() {
    return monotonic_ns() + kLongNs;
}

// A process in the cgroup that counts in memory that the test sees.
class Counter {
public:
    explicit Counter(const TestCgroup& cgroup) : process_([&] { return cgroup.enter() && start(); }) {}
    pid_t pid() const { return process_.pid(); }

private:
    static bool start() {
        if (::fork() == 0) {  // a second member
            for (;;) {
                ::pause();
            }
        }
        return true;
    }
    HolderProcess process_;
};

TEST(Cgroup, NamesOfAncestors) {
    EXPECT_EQ(Cgroup::ancestors("/a/b/c"), (std::vector<std::string>{"/", "/a", "/a/b"}));
    EXPECT_EQ(Cgroup::ancestors("/a"), (std::vector<std::string>{"/"}));
    EXPECT_TRUE(Cgroup::ancestors("/").empty());
}

TEST(Cgroup, ProcessIsFoundInItsCgroup) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup made;
    const Counter member(made);
    EXPECT_EQ(Cgroup::path_of(member.pid()), made.path());
    const auto cgroup = Cgroup::open(made.path());
    ASSERT_TRUE(cgroup);
    const auto pids = cgroup->processes();
    EXPECT_EQ(pids.size(), 2u);
    EXPECT_NE(std::find(pids.begin(), pids.end(), member.pid()), pids.end());
    EXPECT_FALSE(Cgroup::path_of(0x3fffffff));
    EXPECT_FALSE(Cgroup::open(made.path() + "-missing"));
}

TEST(Cgroup, MembersBelowCountToo) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup above;
    const TestCgroup below(above.path() + "/below");
    const Counter member(below);
    EXPECT_EQ(Cgroup::open(above.path())->processes().size(), 2u);
}

TEST(Cgroup, FreezesAndThaws) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup made;
    const Counter member(made);
    auto cgroup = Cgroup::open(made.path());
    ASSERT_TRUE(cgroup && cgroup->has_freezer());
    EXPECT_EQ(cgroup->freeze_requested(), false);
    EXPECT_TRUE(cgroup->request_freeze(true));
    EXPECT_EQ(cgroup->wait_frozen(true, soon()), true);
    EXPECT_EQ(cgroup->freeze_requested(), true);
    EXPECT_TRUE(cgroup->events()->frozen && cgroup->events()->populated);
    EXPECT_TRUE(cgroup->request_freeze(false));
    EXPECT_EQ(cgroup->wait_frozen(false, soon()), true);
    EXPECT_EQ(cgroup->freeze_requested(), false);
}

TEST(Cgroup, TopHasNoFreezer) {
    NODESNAP_NEEDS_CGROUPS();
    EXPECT_FALSE(Cgroup::open("/")->has_freezer());
}

TEST(Cgroup, FrozenAncestorDoesntShowInItsOwnState) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup above;
    const TestCgroup below(above.path() + "/below");
    const Counter member(below);
    auto cgroup = Cgroup::open(below.path());
    Cgroup::open(above.path())->request_freeze(true);
    EXPECT_EQ(cgroup->wait_frozen(true, soon()), true);
    EXPECT_EQ(cgroup->freeze_requested(), false);
    Cgroup::open(above.path())->request_freeze(false);
}

TEST(Cgroup, ProcessThatWaitsForItsFileSystemDoesntFreeze) {
    NODESNAP_NEEDS_CGROUPS();
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount mount("ext4", std::uint64_t{64} << 20);
    const TestCgroup made;
    test::run({"fsfreeze", "-f", mount.path()});
    const HolderProcess member([&] {
        if (::fork() != 0) {
            return true;  // not a member
        }
        const bool entered = made.enter();
        ::_exit(entered && ::open((mount / "file").c_str(), O_CREAT | O_WRONLY, 0600) >= 0 ? 0 : 1);
    });
    auto cgroup = Cgroup::open(made.path());
    const auto hangs = [&] {
        const auto pids = cgroup->processes();
        const std::string stat = pids.empty() ? "" : read_small_file("/proc/" + std::to_string(pids[0]) + "/stat").value_or("");
        return stat.find(") D ") != std::string::npos;
    };
    while (!hangs()) {
        ::usleep(1000);
    }
    cgroup->request_freeze(true);
    EXPECT_EQ(cgroup->wait_frozen(true, monotonic_ns() + 100'000'000), false);
    test::run({"fsfreeze", "-u", mount.path()});
    EXPECT_EQ(cgroup->wait_frozen(true, soon()), true);
    cgroup->request_freeze(false);
}

TEST(Cgroup, RemovedOneIsGoneAndItsNamesakeIsAnother) {
    NODESNAP_NEEDS_CGROUPS();
    auto made = std::make_unique<TestCgroup>();
    const std::string path = made->path();
    auto cgroup = Cgroup::open(path);
    made.reset();
    EXPECT_FALSE(cgroup->freeze_requested());
    EXPECT_FALSE(cgroup->request_freeze(true));
    EXPECT_FALSE(cgroup->events());
    EXPECT_FALSE(cgroup->wait_frozen(true, soon()));
    EXPECT_TRUE(cgroup->processes().empty());
    const TestCgroup again(path);
    EXPECT_NE(Cgroup::open(path)->id(), cgroup->id());
}

TEST(Cgroup, KillsFrozenMembers) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup made;
    const Counter member(made);
    const auto process = Pidfd::open(member.pid());
    auto cgroup = Cgroup::open(made.path());
    cgroup->request_freeze(true);
    EXPECT_EQ(cgroup->wait_frozen(true, soon()), true);
    EXPECT_FALSE(process->ended());
    cgroup->kill_all();
    EXPECT_TRUE(process->wait_ended(soon()));
}

TEST(Cgroup, LocksAreSharedOrExclusive) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup made;
    auto first = Cgroup::open(made.path());
    auto second = Cgroup::open(made.path());
    EXPECT_TRUE(first->try_lock(false));
    EXPECT_TRUE(second->try_lock(false));
    EXPECT_FALSE(second->try_lock(true));
    first.reset();
    EXPECT_TRUE(second->try_lock(true));
    EXPECT_FALSE(Cgroup::open(made.path())->try_lock(false));
}

TEST(Cgroup, OneWithMembersIsntRemoved) {
    NODESNAP_NEEDS_CGROUPS();
    const TestCgroup made;
    const Counter member(made);
    EXPECT_FALSE(Cgroup::remove(made.path()));
    EXPECT_FALSE(Cgroup::remove(made.path() + "-missing"));
}

TEST(Pidfd, TellsWhenAProcessEnds) {
    auto member = std::make_unique<HolderProcess>([] { return true; });
    const auto process = Pidfd::open(member->pid());
    ASSERT_TRUE(process);
    EXPECT_FALSE(process->ended());
    EXPECT_TRUE(process->signal(SIGKILL));
    EXPECT_TRUE(process->wait_ended(soon()));
    member.reset();
    EXPECT_FALSE(process->signal(SIGKILL));
    EXPECT_FALSE(Pidfd::open(process->pid()));
}

}  // namespace
}  // namespace nodesnap
