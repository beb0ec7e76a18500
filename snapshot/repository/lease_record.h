// The stored lease: its encoding, and what can be told about its holder from here. Internal to the lock.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "snapshot/repository/lock.h"

namespace nodesnap {

inline constexpr std::string_view kLeaseKind = "lease";
inline constexpr int kLeaseAttempts = 8;  // to swap it, when others do so at the same time

Bytes encode_lease(const Uuid& repository, const LeaseHolder& holder);
LeaseHolder decode_lease(std::span<const std::byte> text, const std::string& object, const Uuid& repository);

struct StoredLease {
    LeaseHolder holder;
    std::string version;
};
// nullopt if there is none. Error::damaged if it can't be read.
std::optional<StoredLease> load_lease(Target& target, const Uuid& repository);

// This process as a holder, with now as its heartbeat; epoch 0.
LeaseHolder this_holder(const std::string& command, std::int64_t lease_seconds);
void beat(LeaseHolder& holder);  // the heartbeat is now

// Releases the stored lease, if it is still this holding.
void end_holding(Target& target, const Uuid& repository, const LeaseHolder& holder);

HolderState assess(const LeaseHolder& holder);
bool same_boot(const LeaseHolder& holder);       // as this process
std::int64_t age_ns(const LeaseHolder& holder);  // of the heartbeat; negative if the holder's clock is ahead
bool same_holding(const LeaseHolder& a, const LeaseHolder& b);

}  // namespace nodesnap
