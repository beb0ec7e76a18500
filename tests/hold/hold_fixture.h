// What the tests of holding share: a daemon to hold, a nodesnap that holds it and can be killed, and what must be true afterwards.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/pidfd.h"
#include "platform/processes.h"
#include "snapshot/hold/hold.h"
#include "snapshot/hold/release.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"
#include "tests/support/test_cgroup.h"

namespace nodesnap::hold {

// Calls until it is true; the test's own time limit ends it otherwise.
inline void wait_until(const std::function<bool()>& condition) {
    while (!condition()) {
        ::usleep(200);
    }
}

// Memory that forked processes see.
class SharedCounter {
public:
    SharedCounter()
        : counter_(new (::mmap(nullptr, sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                       std::atomic<std::uint64_t>(0)) {}
    ~SharedCounter() { ::munmap(counter_, sizeof(*counter_)); }
    SharedCounter(const SharedCounter&) = delete;
    SharedCounter& operator=(const SharedCounter&) = delete;
    std::uint64_t get() const { return counter_->load(); }
    void add() const { counter_->fetch_add(1); }
    void set(std::uint64_t value) const { counter_->store(value); }

private:
    std::atomic<std::uint64_t>* counter_;
};

// A process in a cgroup of its own that counts.
class Daemon {
public:
    Daemon() : process_([this] { return cgroup_.enter() && start(); }) {}
    pid_t pid() const { return process_.pid(); }
    const test::TestCgroup& cgroup() const { return cgroup_; }
    bool frozen() const { return cgroup_.frozen(); }
    void expect_running() const {
        const std::uint64_t before = counter_.get();
        wait_until([&] { return counter_.get() > before + 1; });
    }
    void expect_standing() const {
        EXPECT_TRUE(frozen());
        const std::uint64_t before = counter_.get();
        for (int i = 0; i < 1000; ++i) {
            ::sched_yield();
        }
        EXPECT_EQ(counter_.get(), before);
    }

private:
    bool start() const {
        if (::fork() == 0) {
            for (;;) {
                counter_.add();
                ::usleep(100);
            }
        }
        return true;
    }
    test::TestCgroup cgroup_;
    SharedCounter counter_;
    test::HolderProcess process_;
};

class Nodesnap;

class HoldTest : public testing::Test {
protected:
    void SetUp() override { NODESNAP_NEEDS_CGROUPS(); }

    Options options(Mode mode) const {
        Options options;
        options.mode = mode;
        options.node_directory = "/node";
        options.state_directory = scratch_.path();
        options.guard_program = {NODESNAP_GUARD};
        options.max_downtime = std::chrono::seconds(60);
        options.wait_for_others = std::chrono::nanoseconds(0);
        return options;
    }
    Options freeze(const Daemon& daemon) const {
        Options all = options(Mode::kFreeze);
        all.pid = daemon.pid();
        return all;
    }

    std::size_t intents() const {
        std::size_t count = 0;
        if (std::filesystem::exists(scratch_ / "hold")) {
            for (const auto& entry : std::filesystem::directory_iterator(scratch_ / "hold")) {
                ++count;
                if (const auto intent = peek(scratch_.path(), entry.path().filename())) {
                    ids_.insert(intent->id);
                }
            }
        }
        return count;
    }
    // Of guards of the intents that intents() has seen; other tests' guards are none of ours.
    std::size_t guard_cgroups() const {
        return static_cast<std::size_t>(std::count_if(
            ids_.begin(), ids_.end(), [](const std::string& id) { return Cgroup::open("/nodesnap-guard." + id).has_value(); }));
    }
    // The guard of the one intent that there is; not a command that it runs, nor who waits for that.
    std::optional<Pidfd> guard() const {
        EXPECT_EQ(intents(), 1u);
        for (const std::string& id : ids_) {
            const auto cgroup = Cgroup::open("/nodesnap-guard." + id);
            const auto pids = cgroup ? cgroup->processes() : std::vector<pid_t>{};
            for (const pid_t pid : pids) {
                const auto parent = process_parent(pid);
                if (parent && std::find(pids.begin(), pids.end(), *parent) == pids.end()) {
                    return Pidfd::open(pid);
                }
            }
        }
        return std::nullopt;
    }

    // nodesnap has stopped itself; neither it nor its guard has a chance to let go.
    void kill_both(Nodesnap& nodesnap) const;

    mutable std::set<std::string> ids_;
    test::ScratchDirectory scratch_{"nodesnap-hold"};
};

// A nodesnap that holds, does its snapshot, and releases, in a process and a cgroup of its own. Its exit status: 0, or 9 when the hold was
// broken, or the ExitStatus of its error.
class Nodesnap {
public:
    static constexpr int kBroken = 9;

    // `arm` sets what happens to it at which step.
    Nodesnap(const Options& options, const std::function<void(test::FaultHooks&)>& arm) {
        pid_ = ::fork();
        if (pid_ == 0) {
            ::_exit(run(options, arm));
        }
    }
    ~Nodesnap() {
        if (!waited_for_) {
            ::kill(pid_, SIGKILL);
            wait();
        }
    }
    Nodesnap(const Nodesnap&) = delete;
    Nodesnap& operator=(const Nodesnap&) = delete;

    pid_t pid() const { return pid_; }
    void wait_until_stopped() const {
        int status = 0;
        ASSERT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
        ASSERT_TRUE(WIFSTOPPED(status)) << status;
    }
    void kill_by_cgroup() const { Cgroup::open(cgroup_.path())->kill_all(); }
    // The exit status, or minus the signal that has ended it.
    int wait() {
        int status = 0;
        EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
        waited_for_ = true;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

private:
    int run(const Options& options, const std::function<void(test::FaultHooks&)>& arm) const {
        try {
            if (!cgroup_.enter()) {
                return 99;
            }
            test::FaultHooks hooks;
            arm(hooks);
            Hold held(options);
            held.hold();
            return held.release().broken.empty() ? 0 : kBroken;
        } catch (const Error& error) {
            return static_cast<int>(error.status());
        }
    }

    test::TestCgroup cgroup_;
    pid_t pid_ = -1;
    bool waited_for_ = false;
};

inline void HoldTest::kill_both(Nodesnap& nodesnap) const {
    nodesnap.wait_until_stopped();
    const auto its_guard = guard();
    ASSERT_TRUE(its_guard && its_guard->signal(SIGKILL));
    EXPECT_TRUE(its_guard->wait_ended(INT64_MAX));
    ::kill(nodesnap.pid(), SIGKILL);
    nodesnap.wait();
}

inline const char* const kSteps[] = {"hold.intent-written", "hold.guard-ready", "hold.asking",   "hold.asked",
                                     "hold.held",           "hold.releasing",   "hold.released", "hold.finished"};

}  // namespace nodesnap::hold
