#include "snapshot/append_only/client_lease.h"

#include "platform/error.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/lease_record.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kDaySeconds = 24 * 3600;
constexpr int kAttempts = 8;

constexpr const char* kWait = "wait for it to end, or look on that host whether it still runs";

// Whether it is that holding, whatever became of it.
bool is_holding(LeaseHolder a, const LeaseHolder& b) {
    a.held = b.held;
    return same_holding(a, b);
}

}  // namespace

LeaseHolder ClientLease::require() const {
    const auto stored = load_lease(target_, repository_);
    const auto own = theirs();
    if (!stored || !stored->holder.held || !own || !is_holding(*own, stored->holder)) {
        throw Error::refused(
            "the lock of the repository isn't held by this client",
            stored && stored->holder.held ? "it is held by " + describe(stored->holder) + "; run it again later" : "run it again");
    }
    return stored->holder;
}

bool ClientLease::swap(const std::optional<std::string>& expected, std::span<const std::byte> content) {
    const std::string name(layout::kExclusiveLock);
    const LeaseHolder next = decode_lease(content, target_.describe(name), repository_);
    const auto stored = load_lease(target_, repository_);
    if ((stored ? std::optional(stored->version) : std::nullopt) != expected) {
        return false;
    }
    if (next.lease_seconds > kLongestSeconds) {
        throw Error::refused("a key that may only append holds the lock for 5 min at most without a sign of life",
                             "give no --lock-lease, or a shorter one");
    }
    const bool same = stored && is_holding(next, stored->holder);
    if (same) {
        const auto own = theirs();
        if (!own || !is_holding(*own, next) || (next.held && !stored->holder.held)) {
            throw Error::refused("the lock of the repository is another's: " + describe(stored->holder), kWait);
        }
        return target_.swap(name, expected, content);
    }
    check_taking(stored ? std::optional(stored->holder) : std::nullopt, next);
    if (!target_.swap(name, expected, content)) {
        return false;
    }
    note(next);
    return true;
}

// What another holds: dead, as can be seen from here, or without a sign of life for as long as it says, by the target's own clock.
bool ClientLease::has_run_out(const LeaseHolder& holder) const {
    const HolderState state = assess(holder);
    if (state == HolderState::kDead || state == HolderState::kAlive) {
        return state == HolderState::kDead;  // of this host: then no clock that may be set is asked
    }
    const auto stored = stored_ns_(layout::kExclusiveLock);
    return stored && now_ns_() - *stored > holder.lease_seconds * kSecondNs;
}

void ClientLease::check_taking(const std::optional<LeaseHolder>& before, const LeaseHolder& next) const {
    if (!next.held) {
        throw Error::refused("only who holds the lock of the repository can release it", kWait);
    }
    if (before && before->held) {
        const auto own = theirs();
        if (!(own && is_holding(*own, *before)) && !has_run_out(*before)) {
            throw Error::refused("the lock of the repository is another's: " + describe(*before), kWait);
        }
    }
    // Epochs tell who came later: one that is far ahead would be the last.
    const auto now_seconds = static_cast<std::uint64_t>(now_ns_() / kSecondNs);
    const bool right = before ? next.epoch == before->epoch + 1 : next.epoch <= now_seconds + kDaySeconds;
    if (!right) {
        throw Error::refused("the lock can't be taken with epoch " + std::to_string(next.epoch),
                             before ? "run it again" : "look at the clocks of both hosts");
    }
}

std::optional<LeaseHolder> ClientLease::theirs() const {
    try {
        const auto stored = target_.load(layout::kClientLease, kJsonObjectLimit);
        return stored ? std::optional(decode_lease(stored->content, target_.describe(layout::kClientLease), repository_)) : std::nullopt;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        return std::nullopt;  // then they wait for the lock as for another's
    }
}

void ClientLease::note(const LeaseHolder& holder) {
    const Bytes content = encode_lease(repository_, holder);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const auto present = target_.load_salvaging(layout::kClientLease, kJsonObjectLimit);
        if (target_.swap(layout::kClientLease, present ? std::optional(present->version) : std::nullopt, content)) {
            return;
        }
    }
    throw Error::failed(target_.describe(layout::kClientLease) + " keeps changing", "run it again");
}

}  // namespace nodesnap
