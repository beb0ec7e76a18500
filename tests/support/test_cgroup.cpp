#include "tests/support/test_cgroup.h"

#include <unistd.h>

#include <atomic>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/error.h"

namespace nodesnap::test {
namespace {

std::string fresh_path() {
    static std::atomic<int> count{0};
    return "/nodesnap-test." + std::to_string(::getpid()) + "." + std::to_string(++count);
}

constexpr std::int64_t kRemoveNs = 10'000'000'000;

}  // namespace

TestCgroup::TestCgroup() : TestCgroup(fresh_path()) {}

TestCgroup::TestCgroup(const std::string& path) : path_(path) {
    (void)Cgroup::make(path);
}

TestCgroup::~TestCgroup() {
    try {
        if (auto cgroup = Cgroup::open(path_)) {
            cgroup->request_freeze(false);
            cgroup->kill_all();
        }
        // A member that was killed is one until it is waited for.
        const std::int64_t deadline = monotonic_ns() + kRemoveNs;
        while (Cgroup::open(path_) && !Cgroup::remove(path_) && monotonic_ns() < deadline) {
            ::usleep(1000);
        }
    } catch (const Error&) {
        // What is left is seen by whoever looks for it.
    }
}

bool TestCgroup::enter() const noexcept {
    try {
        Cgroup::open(path_)->move_here(::getpid());
        return true;
    } catch (const Error&) {
        return false;
    }
}

bool TestCgroup::frozen() const {
    const auto cgroup = Cgroup::open(path_);
    const auto events = cgroup ? cgroup->events() : std::nullopt;
    return events && events->frozen;
}

bool TestCgroup::freeze_requested() const {
    const auto cgroup = Cgroup::open(path_);
    return cgroup && cgroup->freeze_requested().value_or(false);
}

std::string TestCgroup::unavailable() {
    if (::geteuid() != 0) {
        return "needs root to make cgroups";
    }
    if (!Cgroup::mount_point()) {
        return "needs cgroup v2";
    }
    try {
        const std::string path = fresh_path();
        (void)Cgroup::make(path);
        Cgroup::remove(path);
    } catch (const Error& error) {
        return error.message();
    }
    return "";
}

}  // namespace nodesnap::test
