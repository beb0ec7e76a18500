// AppendOnlyTarget: what `nodesnap serve --append-only` gives a client in the place of a repository's target. A client with a stolen key
// can then add backups, and nothing else: it can't remove or alter what is there, take its place, or make it expire by forged dates.
// See docs/design.md, "Append-only".
//
// What names say isn't enough: leases, sessions and manifests are read before they are stored. Whatever isn't needed for a backup is an
// Error::refused, also told to `refused`. Reading is as it was. Needs nothing but what is stored, so that several servers of one client
// (one for each connection) are as one. Thread-safe where the target is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "io/target/target.h"

namespace nodesnap {

struct AppendOnlyOptions {
    std::function<std::int64_t()> now_ns;  // UTC; none: the system's clock
    // When an object was stored last, by the target's clock; nullopt if that can't be told. None: of a directory of this host.
    std::function<std::optional<std::int64_t>(std::string_view name)> stored_ns;
    std::function<void(const std::string& what)> refused;
};

std::shared_ptr<Target> make_append_only_target(std::shared_ptr<Target> target, AppendOnlyOptions options);

// Before it is served so: if there is a repository in it, it keeps receipts from now on. Error::locked if another works on one that
// doesn't yet.
void begin_append_only(const std::shared_ptr<Target>& target);

}  // namespace nodesnap
