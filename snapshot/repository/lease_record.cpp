#include "snapshot/repository/lease_record.h"

#include <fcntl.h>
#include <unistd.h>

#include "io/human_time.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/host.h"
#include "platform/processes.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/layout.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

std::string this_pid_namespace() {
    try {
        return read_link(AT_FDCWD, "/proc/self/ns/pid");
    } catch (const Error&) {
        return "";  // no /proc: then nothing can be told of other processes either
    }
}

bool expired(const LeaseHolder& holder) {
    const std::int64_t age = age_ns(holder);
    const std::int64_t lease = holder.lease_seconds * kSecondNs;
    // A heartbeat far in the future is of a clock that was wrong.
    return age > lease || age < -lease;
}

}  // namespace

Bytes encode_lease(const Uuid& repository, const LeaseHolder& holder) {
    JsonObject object;
    object.kind = kLeaseKind;
    object.repository = repository;
    auto& members = object.members;
    members["epoch"] = holder.epoch;
    members["held"] = holder.held;
    members["command"] = holder.command;
    members["host"] = holder.host;
    members["machine_id"] = holder.machine_id;
    members["boot_id"] = holder.boot_id;
    members["pid_namespace"] = holder.pid_namespace;
    members["pid"] = holder.pid;
    members["process_start"] = holder.process_start;
    members["acquired_ns"] = holder.acquired_ns;
    members["heartbeat_ns"] = holder.heartbeat_ns;
    members["heartbeat_boot_ns"] = holder.heartbeat_boot_ns;
    members["lease_seconds"] = holder.lease_seconds;
    return encode_json_object(object);
}

LeaseHolder decode_lease(std::span<const std::byte> text, const std::string& object, const Uuid& repository) {
    const auto members = decode_json_object(text, kLeaseKind, object, repository).members;
    LeaseHolder holder;
    holder.epoch = member::unsigned_integer(members, "epoch", object);
    holder.held = member::boolean(members, "held", object);
    holder.command = member::text(members, "command", object);
    holder.host = member::text(members, "host", object);
    holder.machine_id = member::text(members, "machine_id", object);
    holder.boot_id = member::text(members, "boot_id", object);
    holder.pid_namespace = member::text(members, "pid_namespace", object);
    holder.pid = member::integer(members, "pid", object);
    holder.process_start = member::unsigned_integer(members, "process_start", object);
    holder.acquired_ns = member::integer(members, "acquired_ns", object);
    holder.heartbeat_ns = member::integer(members, "heartbeat_ns", object);
    holder.heartbeat_boot_ns = member::integer(members, "heartbeat_boot_ns", object);
    holder.lease_seconds = member::integer(members, "lease_seconds", object);
    if (holder.epoch >= INT64_MAX || holder.lease_seconds < 1 || holder.lease_seconds > kLongestLease.count() || holder.heartbeat_ns < 0 ||
        holder.heartbeat_boot_ns < 0 || holder.pid < 0 || holder.pid > INT32_MAX) {
        throw Error::damaged(object, "a number is out of range");
    }
    return holder;
}

std::optional<StoredLease> load_lease(Target& target, const Uuid& repository) {
    try {
        const auto stored = target.load(layout::kExclusiveLock, kJsonObjectLimit);
        if (!stored) {
            return std::nullopt;
        }
        return StoredLease{decode_lease(stored->content, target.describe(layout::kExclusiveLock), repository), stored->version};
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        throw Error(
            error.status(), "the lock of the repository can't be read: " + error.message(),
            "make sure that no backup or repair of it runs on any host, then remove the lock: nodesnap unlock " + target.describe());
    }
}

LeaseHolder this_holder(const std::string& command, std::int64_t lease_seconds) {
    LeaseHolder holder;
    holder.host = host_name();
    holder.machine_id = machine_id();
    holder.boot_id = boot_id();
    holder.pid_namespace = this_pid_namespace();
    holder.pid = ::getpid();
    holder.process_start = process_start(::getpid()).value_or(0);
    holder.command = command;
    holder.lease_seconds = lease_seconds;
    holder.held = true;
    beat(holder);
    holder.acquired_ns = holder.heartbeat_ns;
    return holder;
}

void beat(LeaseHolder& holder) {
    holder.heartbeat_ns = utc_now_ns();
    holder.heartbeat_boot_ns = boot_time_ns();
}

void end_holding(Target& target, const Uuid& repository, const LeaseHolder& holder) {
    for (int attempt = 0; attempt < kLeaseAttempts; ++attempt) {
        const auto stored = load_lease(target, repository);
        if (!stored || !same_holding(stored->holder, holder)) {
            return;  // it is another's: nothing to release
        }
        LeaseHolder ended = holder;
        ended.held = false;
        beat(ended);
        if (target.swap(layout::kExclusiveLock, stored->version, encode_lease(repository, ended))) {
            return;
        }
    }
}

bool same_boot(const LeaseHolder& holder) {
    return !holder.boot_id.empty() && holder.boot_id == boot_id();
}

std::int64_t age_ns(const LeaseHolder& holder) {
    return same_boot(holder) ? boot_time_ns() - holder.heartbeat_boot_ns : utc_now_ns() - holder.heartbeat_ns;
}

HolderState assess(const LeaseHolder& holder) {
    if (!holder.held) {
        return HolderState::kNone;
    }
    const bool visible = same_boot(holder) && holder.pid_namespace == this_pid_namespace();
    if (visible && (holder.pid == 0 || !process_alive(static_cast<pid_t>(holder.pid), holder.process_start))) {
        return HolderState::kDead;
    }
    // The name alone isn't enough: many hosts are called "localhost".
    if (!same_boot(holder) && holder.host == host_name() && holder.machine_id == machine_id()) {
        return HolderState::kDead;
    }
    if (expired(holder)) {
        return HolderState::kExpired;
    }
    return visible ? HolderState::kAlive : HolderState::kUnknown;
}

bool same_holding(const LeaseHolder& a, const LeaseHolder& b) {
    return a.epoch == b.epoch && a.pid == b.pid && a.boot_id == b.boot_id && a.pid_namespace == b.pid_namespace &&
           a.process_start == b.process_start && a.acquired_ns == b.acquired_ns && a.held == b.held;
}

std::string describe(const LeaseHolder& holder) {
    return holder.command + ", process " + std::to_string(holder.pid) + " on host " + holder.host + ", since " +
           human_time(holder.acquired_ns) + " UTC, last sign of life " + human_time(holder.heartbeat_ns) + " UTC";
}

}  // namespace nodesnap
