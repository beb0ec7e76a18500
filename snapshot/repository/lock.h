// Lease: who may write to a repository. A small object, taken and renewed by compare-and-swap.
//
// It says holder (host, pid, the process's start, boot id), an epoch that grows with each holder, and a heartbeat that a thread of its own renews
// every quarter of the lease time. It may be taken over when its holder is provably dead (same host: no such process or another boot) or when
// the heartbeat is older than the lease time. check() tells whether the epoch is still ours: a process that slept through its lease (SIGSTOP, a
// suspended machine) gets Error::locked, and must publish nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

struct LeaseHolder {
    std::uint64_t epoch = 0;
    std::string host;
    std::string boot_id;
    std::int64_t pid = 0;
    std::uint64_t process_start = 0;  // field 22 of /proc/PID/stat
    std::string command;              // "backup"
    std::int64_t acquired_ns = 0;     // UTC
    std::int64_t heartbeat_ns = 0;    // UTC
    std::int64_t lease_seconds = 0;
    bool held = false;                // false: released
};

struct LeaseOptions {
    std::string command;
    std::chrono::seconds lease{300};
    std::chrono::seconds wait{0};  // --wait-lock: how long to wait for another holder
};

class Lease {
public:
    // Error::locked, naming the holder and the remedy, if another holds it (after `wait`).
    static Lease acquire(Target& target, const Uuid& repository, const LeaseOptions& options);
    Lease(Lease&&) noexcept;
    ~Lease();  // stops the heartbeat and releases, if release() wasn't called; never throws

    std::uint64_t epoch() const;
    bool took_over() const;  // a previous holder hadn't released it
    void check() const;      // Error::locked if it isn't ours any more
    void release();

private:
    struct Impl;
    explicit Lease(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

enum class HolderState { kNone, kAlive, kDead, kExpired, kUnknown };  // kUnknown: on another host, heartbeat still fresh
struct LeaseState {
    std::optional<LeaseHolder> holder;
    HolderState state = HolderState::kNone;
};
LeaseState inspect_lease(Target& target, const Uuid& repository);
// `unlock`: removes a lease whose holder is dead or expired; Error::refused (exit status 3) while it lives, or may live.
void break_lease(Target& target, const Uuid& repository);

}  // namespace nodesnap
