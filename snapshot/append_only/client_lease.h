// ClientLease: the repository's lock as the clients of a server have it that may only append. Which holding is theirs is written down where
// they can't write (receipts/lease); another's they can take over only when it has run out, by the server's own look.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/target/target.h"
#include "snapshot/repository/lock.h"

namespace nodesnap {

class ClientLease {
public:
    static constexpr std::int64_t kLongestSeconds = 300;

    // All must outlive it. `stored_ns`: as AppendOnlyOptions'.
    ClientLease(Target& target, const Uuid& repository, std::function<std::int64_t()> now_ns,
                std::function<std::optional<std::int64_t>(std::string_view name)> stored_ns)
        : target_(target), repository_(repository), now_ns_(std::move(now_ns)), stored_ns_(std::move(stored_ns)) {}

    // The holding, if it is a client's; Error::refused if it isn't.
    LeaseHolder require() const;
    // As Target::swap() of the lock. Error::refused for what a client may not do with it.
    bool swap(const std::optional<std::string>& expected, std::span<const std::byte> content);

private:
    std::optional<LeaseHolder> theirs() const;
    bool has_run_out(const LeaseHolder& holder) const;
    void check_taking(const std::optional<LeaseHolder>& before, const LeaseHolder& next) const;
    void note(const LeaseHolder& holder);

    Target& target_;
    const Uuid repository_;
    const std::function<std::int64_t()> now_ns_;
    const std::function<std::optional<std::int64_t>(std::string_view name)> stored_ns_;
};

}  // namespace nodesnap
