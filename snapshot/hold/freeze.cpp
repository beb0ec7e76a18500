// Holding by the freezer of cgroup v2.
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "platform/processes.h"
#include "snapshot/hold/action.h"
#include "snapshot/hold/cgroup_lock.h"
#include "snapshot/hold/refusals.h"

namespace nodesnap::hold {
namespace {

constexpr std::int64_t kSliceNs = 10'000'000;  // of waiting, between two calls of the caller
constexpr int kThawAttempts = 100;
constexpr useconds_t kThawPauseUs = 10'000;

class Freeze : public Action {
public:
    Freeze(const Intent& intent, const Surroundings& surroundings) : Action(intent, surroundings) {}

    void prepare(std::span<const pid_t> own) override {
        own_.assign(own.begin(), own.end());
        open();
        if (!cgroup_) {
            throw Error::failed("cgroup " + intent().cgroup + " went away before it was frozen");
        }
        lock_ = CgroupLock(intent().cgroup);
        refuse_vital(*cgroup_, own_);
        cgroup_->watch_freeze();
    }

    std::string broken(const WhileWaiting&) override {
        const auto requested = cgroup_->freeze_requested();
        const auto events = cgroup_->events();
        if (!requested || !events) {
            return "cgroup " + intent().cgroup + " was removed while it was frozen";
        }
        if (!*requested || !events->frozen || cgroup_->freeze_written()) {
            return "cgroup " + intent().cgroup + " was thawed by something else";
        }
        const std::vector<pid_t> now = cgroup_->processes();
        for (const pid_t pid : members_) {
            // One that was killed has written nothing since, and has left the list if it was waited for or not.
            const auto start = process_start(pid);
            if (!std::binary_search(now.begin(), now.end(), pid) && start && process_alive(pid, *start)) {
                return "process " + std::to_string(pid) + " was moved out of cgroup " + intent().cgroup + " while that was frozen";
            }
        }
        return "";
    }

private:
    Held do_hold(const WhileWaiting& waiting) override {
        refuse_vital(*cgroup_, own_);
        look_for_member();
        if (cgroup_->freeze_requested() != intent().already) {
            throw Error::failed("cgroup " + intent().cgroup +
                                " was frozen, thawed or removed by something else while the backup was prepared");
        }
        const std::int64_t now = monotonic_ns();
        if (!intent().already) {
            touching();
            fault::step("hold.freeze");
            if (!cgroup_->request_freeze(true)) {
                throw_gone();
            }
            fault::step("hold.freezing");
        }
        cgroup_->freeze_written();  // by us, or before the hold
        wait(now + intent().max_downtime_ns, waiting);
        fault::step("hold.frozen");
        members_ = cgroup_->processes();
        return {now, now};
    }

    void do_release(Reason, const WhileWaiting&) override {
        // In the guard, which has it open, nothing of this takes memory.
        if (!cgroup_) {
            if (intent().boot_id != boot_id()) {
                return;  // a cgroup's state ends with the boot
            }
            open();
        }
        for (int attempt = 1; cgroup_; ++attempt) {
            try {
                cgroup_->request_freeze(false);  // false: gone, and with it all that was frozen
                return;
            } catch (const Error&) {
                if (attempt == kThawAttempts) {
                    throw;
                }
                ::usleep(kThawPauseUs);
            }
        }
    }

    // Leaves it closed if the cgroup is gone, or is another one under the same name.
    void open() {
        cgroup_ = Cgroup::open(intent().cgroup);
        if (cgroup_ && cgroup_->id() != intent().cgroup_id) {
            cgroup_.reset();
        }
    }

    [[noreturn]] void throw_gone() const {
        throw Error::failed("cgroup " + intent().cgroup + " was removed while it was being frozen",
                            "the daemon has ended or was restarted");
    }

    void look_for_member() const {
        const auto pid = static_cast<pid_t>(intent().member_pid);
        if (pid != 0 && (!process_alive(pid, intent().member_start) || Cgroup::path_of(pid) != intent().cgroup)) {
            throw Error::failed("process " + std::to_string(pid) + " has ended, or has left cgroup " + intent().cgroup);
        }
    }

    void wait(std::int64_t deadline, const WhileWaiting& waiting) const {
        for (;;) {
            const auto frozen = cgroup_->wait_frozen(true, std::min(deadline, monotonic_ns() + kSliceNs));
            if (!frozen) {
                throw_gone();
            }
            if (*frozen) {
                return;
            }
            if (monotonic_ns() >= deadline) {
                throw Error::failed(
                    "cgroup " + intent().cgroup + " did not freeze in time: one of its processes waits in the kernel",
                    "look for processes in state D (ps), and for what their storage does; --max-downtime allows for more time");
            }
            waiting();
            if (abandoned()) {
                throw Error::failed("nodesnap has ended while cgroup " + intent().cgroup + " was being frozen");
            }
        }
    }

    std::vector<pid_t> own_;
    std::optional<Cgroup> cgroup_;
    CgroupLock lock_;
    std::vector<pid_t> members_;
};

}  // namespace

std::unique_ptr<Action> make_freeze(const Intent& intent, const Surroundings& surroundings) {
    return std::make_unique<Freeze>(intent, surroundings);
}

}  // namespace nodesnap::hold
