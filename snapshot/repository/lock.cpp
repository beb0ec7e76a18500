#include "snapshot/repository/lock.h"

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/lease_record.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::chrono::seconds kLongestWait{365 * 24 * 3600};

std::string place(const Target& target) {
    return target.describe(layout::kExclusiveLock);
}

std::string held_by(const Target& target, const LeaseHolder& holder) {
    return "the repository " + target.describe() + " is locked by " + describe(holder);
}

// How long one that looks expired is watched: in half its time a living holder renews it twice.
std::int64_t watch_ns(const LeaseHolder& holder) {
    return holder.lease_seconds * kSecondNs / 2;
}

std::string unless_renewed(const LeaseHolder& holder) {
    return "; its time seems to be over: it is taken over if nothing is heard of it for " +
           std::to_string((watch_ns(holder) + kSecondNs - 1) / kSecondNs) + " s";
}

Error locked_by(const Target& target, const LeaseHolder& holder, HolderState state) {
    return Error::locked(held_by(target, holder), state == HolderState::kUnknown
                                                      ? "wait for it (--wait-lock), or look on host " + holder.host +
                                                            " whether it still runs; its lock ends " +
                                                            std::to_string(holder.lease_seconds) + " s after its last sign of life"
                                                      : "wait for it to end (--wait-lock), or end that process");
}

// Watches a lease that may only look expired, because the clock of another host differs, or this one's was set: by however much.
class Watch {
public:
    enum class Verdict { kDead, kAlive, kUndecided };

    Verdict judge(const StoredLease& lease) {
        if (same_boot(lease.holder)) {
            return Verdict::kDead;
        }
        const bool renewed = !version_.empty() && lease.version != version_;
        if (lease.version != version_) {
            version_ = lease.version;
            since_ns_ = boot_time_ns();
        }
        if (renewed) {
            return Verdict::kAlive;
        }
        return boot_time_ns() - since_ns_ >= watch_ns(lease.holder) ? Verdict::kDead : Verdict::kUndecided;
    }

private:
    std::string version_;
    std::int64_t since_ns_ = 0;
};

}  // namespace

struct Lease::Impl {
    Impl(Target& where, const Uuid& of, LeaseHolder holder, bool taken_over)
        : target(where), repository(of), self(std::move(holder)), took_over(taken_over), renewed_boot_ns(self.heartbeat_boot_ns) {}
    ~Impl();

    void start();
    void beat_until_stopped();
    // Proves that it is ours, and renews it if the last renewal is at least `renew_after_ns` old. Error::locked if it isn't.
    void prove(std::int64_t renew_after_ns);
    void stop() noexcept;
    void release();

    Target& target;
    const Uuid repository;
    const LeaseHolder self;  // as it was acquired; the heartbeat goes on in the stored one
    const bool took_over;

    std::mutex mutex;  // of the stored lease and of what follows
    std::int64_t renewed_boot_ns;
    bool lost = false;
    bool released = false;

    std::mutex stop_mutex;
    std::condition_variable stop_signal;
    bool stopping = false;
    std::thread heartbeat;
};

void Lease::Impl::start() {
    // Signals are for the program's own threads.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        heartbeat = std::thread([this] { beat_until_stopped(); });
    } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Lease::Impl::beat_until_stopped() {
    const auto interval = std::chrono::nanoseconds(self.lease_seconds * kSecondNs / 4);
    std::unique_lock lock(stop_mutex);
    while (!stop_signal.wait_for(lock, interval, [this] { return stopping; })) {
        lock.unlock();
        try {
            prove(0);
        } catch (const std::exception&) {
            // A lost lease is told by check(); an error of the target is tried again at the next beat.
        }
        lock.lock();
    }
}

void Lease::Impl::prove(std::int64_t renew_after_ns) {
    const std::lock_guard lock(mutex);
    for (int attempt = 0; attempt < kLeaseAttempts && !lost && !released; ++attempt) {
        const auto stored = load_lease(target, repository);
        if (!stored || !same_holding(stored->holder, self)) {
            lost = true;
            break;
        }
        if (boot_time_ns() - renewed_boot_ns < renew_after_ns) {
            return;
        }
        LeaseHolder renewed = self;
        beat(renewed);
        if (target.swap(layout::kExclusiveLock, stored->version, encode_lease(repository, renewed))) {
            // The time before the swap: it may have taken long.
            renewed_boot_ns = renewed.heartbeat_boot_ns;
            return;
        }
    }
    throw Error::locked(released ? "the lock of the repository " + target.describe() + " was released"
                                 : "the lock of the repository " + target.describe() + " is lost: another took it over",
                        "this process was stopped or cut off for longer than its lease; nothing was published; run it again");
}

void Lease::Impl::stop() noexcept {
    {
        const std::lock_guard lock(stop_mutex);
        stopping = true;
    }
    stop_signal.notify_all();
    if (heartbeat.joinable()) {
        heartbeat.join();
    }
}

void Lease::Impl::release() {
    stop();
    const std::lock_guard lock(mutex);
    if (released) {
        return;
    }
    end_holding(target, repository, self);
    released = true;
}

Lease::Impl::~Impl() {
    stop();
    try {
        release();
    } catch (const std::exception&) {
        // The next one takes it over: this process is gone then.
    }
}

Lease::Lease(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Lease::Lease(Lease&&) noexcept = default;
Lease::~Lease() = default;

std::uint64_t Lease::epoch() const {
    return impl_->self.epoch;
}
bool Lease::took_over() const {
    return impl_->took_over;
}
void Lease::check() const {
    impl_->prove(impl_->self.lease_seconds * kSecondNs / 2);
}
void Lease::renew() const {
    impl_->prove(0);
}
void Lease::release() {
    impl_->release();
}

Lease Lease::acquire(Target& target, const Uuid& repository, const LeaseOptions& options) {
    target.check_writable();
    if (options.lease < std::chrono::seconds(1) || options.lease > kLongestLease) {
        throw Error::usage("a lease must last from 1 second to 30 days");
    }
    const auto poll = std::min<std::chrono::nanoseconds>(std::chrono::seconds(1), std::chrono::nanoseconds(options.lease) / 8);
    const std::int64_t deadline = boot_time_ns() + std::chrono::nanoseconds(std::min(options.wait, kLongestWait)).count();
    Watch watch;
    bool told = false;
    while (true) {
        throw_if_interrupted();
        const auto stored = load_lease(target, repository);
        const HolderState state = stored ? assess(stored->holder) : HolderState::kNone;
        const auto verdict = state == HolderState::kExpired ? watch.judge(*stored) : Watch::Verdict::kAlive;
        const bool gone = state == HolderState::kDead || verdict == Watch::Verdict::kDead;
        if (state == HolderState::kNone || gone) {
            LeaseHolder self = this_holder(options.command, options.lease.count());
            // A lost lease object must not make epochs begin anew.
            self.epoch = stored ? stored->holder.epoch + 1 : static_cast<std::uint64_t>(self.acquired_ns / kSecondNs);
            const auto expected = stored ? std::optional(stored->version) : std::nullopt;
            if (target.swap(layout::kExclusiveLock, expected, encode_lease(repository, self))) {
                auto impl = std::make_unique<Impl>(target, repository, std::move(self), gone);
                impl->start();
                return Lease(std::move(impl));
            }
            continue;  // another was faster: look who
        }
        const HolderState shown = state == HolderState::kExpired ? HolderState::kUnknown : state;
        if (verdict == Watch::Verdict::kAlive && boot_time_ns() >= deadline) {
            throw locked_by(target, stored->holder, shown);
        }
        if (options.waiting && !told) {
            options.waiting(held_by(target, stored->holder) +
                            (verdict == Watch::Verdict::kUndecided ? unless_renewed(stored->holder) : ""));
        }
        told = true;
        std::this_thread::sleep_for(poll);
    }
}

LeaseState inspect_lease(Target& target, const Uuid& repository) {
    try {
        const auto stored = load_lease(target, repository);
        if (!stored || !stored->holder.held) {
            return {};
        }
        return {stored->holder, assess(stored->holder), ""};
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        return {std::nullopt, HolderState::kUnreadable, error.message()};
    }
}

void break_lease(Target& target, const Uuid& repository) {
    std::optional<VersionedObject> object;
    LeaseHolder holder;
    try {
        object = target.load(layout::kExclusiveLock, kJsonObjectLimit);
        if (!object) {
            return;
        }
        holder = decode_lease(object->content, place(target), repository);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        if (!object) {
            target.remove(layout::kExclusiveLock);  // too long, or no file at all: it has no version to be swapped by
        }
        // Whose it was can't be told; the operator says that nobody works here. The epoch must be beyond all earlier ones.
        holder = this_holder("unlock", 1);
        holder.epoch = static_cast<std::uint64_t>(holder.acquired_ns / kSecondNs);
        holder.held = false;
    }
    const HolderState state = assess(holder);
    if (state == HolderState::kAlive || state == HolderState::kUnknown) {
        throw Error::refused("the repository " + target.describe() + " is in use: " + describe(holder),
                             state == HolderState::kAlive ? "end that process first"
                                                          : "make sure that it doesn't run any more; its lock ends " +
                                                                std::to_string(holder.lease_seconds) + " s after its last sign of life");
    }
    holder.held = false;
    const auto expected = object ? std::optional(object->version) : std::nullopt;
    if (!target.swap(layout::kExclusiveLock, expected, encode_lease(repository, holder))) {
        throw Error::refused("the lock of the repository " + target.describe() + " changed while it was looked at", "run it again");
    }
}

}  // namespace nodesnap
