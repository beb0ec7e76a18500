// Lease: who may write to a repository. A small object, taken and renewed by compare-and-swap.
//
// It says holder (host, pid, the process's start, boot id), an epoch that grows with each holder, and a heartbeat that a thread of its own
// renews every quarter of the lease time. It may be taken over when its holder is provably dead (same host: no such process or another
// boot) or when the heartbeat is older than the lease time. check() tells whether the epoch is still ours: a process that slept through its
// lease (SIGSTOP, a suspended machine) while another took it over gets Error::locked, and must publish nothing.
//
// Ages are measured with CLOCK_BOOTTIME within one boot, so that a clock that is set does no harm. Between hosts no clock is trusted: a
// lease that looks expired, by however much, is watched for half its time, in which a living holder renews it, before it is taken over.
// The lease alone doesn't make writes safe (between check() and a write any time may pass): what must hold rests on create-if-absent as
// well, see Repository::publish() and clear_sessions().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

struct LeaseHolder {
    std::uint64_t epoch = 0;
    std::string host;
    std::string machine_id;
    std::string boot_id;
    std::string pid_namespace;  // a pid says nothing in another one
    std::int64_t pid = 0;
    std::uint64_t process_start = 0;     // field 22 of /proc/PID/stat
    std::string command;                 // "backup"
    std::int64_t acquired_ns = 0;        // UTC
    std::int64_t heartbeat_ns = 0;       // UTC
    std::int64_t heartbeat_boot_ns = 0;  // the same instant on the CLOCK_BOOTTIME of that boot
    std::int64_t lease_seconds = 0;
    bool held = false;  // false: released
};

struct LeaseOptions {
    std::string command;
    std::chrono::seconds lease{300};                           // 1 to kLongestLease
    std::chrono::seconds wait{0};                              // --wait-lock: how long to wait for another holder
    std::function<void(const std::string& why)> waiting = {};  // called once if there is somebody to wait for
};

inline constexpr std::chrono::seconds kLongestLease{30 * 24 * 3600};

class Lease {
public:
    // Error::locked, naming the holder and the remedy, if another holds it (after `wait`).
    static Lease acquire(Target& target, const Uuid& repository, const LeaseOptions& options);
    Lease(Lease&&) noexcept;
    ~Lease();  // stops the heartbeat and releases, if release() wasn't called; never throws

    std::uint64_t epoch() const;
    bool took_over() const;  // a previous holder hadn't released it
    // Error::locked if it isn't ours any more. Reads the stored lease each time, and renews it when a renewal is overdue. Any thread.
    void check() const;
    // check(), and stores the lease anew: so what was removed from the target before is durable when it returns. Any thread.
    void renew() const;
    void release();  // stops the heartbeat; a later check() is an Error::locked

private:
    struct Impl;
    explicit Lease(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// kUnknown: on another host, heartbeat still fresh. kUnreadable: the record is damaged, whose it is can't be told.
enum class HolderState { kNone, kAlive, kDead, kExpired, kUnknown, kUnreadable };
struct LeaseState {
    std::optional<LeaseHolder> holder;
    HolderState state = HolderState::kNone;
    std::string damage;  // kUnreadable: what couldn't be read, and why
};
LeaseState inspect_lease(Target& target, const Uuid& repository);
// "backup, process 4711 on host db1, since 2024-05-31T14:30:05Z"
std::string describe(const LeaseHolder& holder);
// `unlock`: releases a lease whose holder is dead or expired, or that can't be read; Error::refused (exit status 3) while it lives, or may
// live. A holder of an unreadable one that lives after all finds its lease lost, and publishes nothing.
void break_lease(Target& target, const Uuid& repository);

}  // namespace nodesnap
