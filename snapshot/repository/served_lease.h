// ServedLease: the lease that the client of a `nodesnap serve` has taken, which is released for it when it has gone without doing so.
//
// That is as if the lease had run out: a client that lives after all finds its lease lost at the next look, as any that slept does, and
// what it still publishes is stopped by what the next holder has put in its place (Repository::publish(), clear_sessions()). Gone it is
// when none of its connections is there any more, so that nothing of it is on its way either.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>

#include "io/target/target.h"
#include "platform/presence.h"
#include "snapshot/repository/lock.h"

namespace nodesnap {

class ServedLease {
public:
    ServedLease() = default;
    ServedLease(const ServedLease&) = delete;
    ServedLease& operator=(const ServedLease&) = delete;
    // The connection has ended, and all that was asked over it is done. Waits for the client's other connections, at most as long as the
    // lease lasts. What can't be released runs out.
    ~ServedLease();
    // A client is there; `session`: the same number for all its connections.
    void greeted(std::shared_ptr<Target> target, std::uint64_t session);
    // It has replaced a small object. Any thread.
    void swapped(std::string_view name, std::span<const std::byte> content) noexcept;

private:
    void release(const Uuid& repository, const LeaseHolder& holder);

    std::shared_ptr<Target> target_;
    std::optional<Presence> presence_;
    std::mutex mutex_;  // of what follows
    std::optional<LeaseHolder> holder_;
    Uuid repository_;
};

}  // namespace nodesnap
