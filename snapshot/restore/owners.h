// OwnerMap: which user and group of this host become the owners of what is restored.
//
// An explicit mapping goes first, then the name that the backup has stored for an id, if this host knows it, then the id itself. A name
// that this host doesn't know is reported once. Thread-safe. Memory: what was looked up, at most kCacheLimit ids of each kind.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "snapshot/restore.h"

namespace nodesnap {

class OwnerMap {
public:
    // Error::usage if a mapping names a user or group that this host doesn't have.
    OwnerMap(const Repository& repository, const Manifest& backup, const OwnerOptions& options, Report& report);

    std::uint32_t user(std::uint32_t stored);
    std::uint32_t group(std::uint32_t stored);
    // Which of the explicit mappings have had something to map, as "user:backup". For an interrupted restore to remember.
    std::vector<std::string> used() const;
    void add_used(const std::vector<std::string>& used);
    // Warns of those that had nothing.
    void tell_unused() const;
    // The ids in a POSIX ACL (the value of system.posix_acl_*), mapped. A value of unknown form comes back as it is.
    Bytes acl(std::span<const std::byte> value);

private:
    static constexpr std::size_t kCacheLimit = 65536;

    struct Kind {
        const char* word;  // "user"
        bool users;
        std::unordered_map<std::string, std::uint32_t> explicit_map;  // by name or decimal id in the backup
        std::unordered_map<std::uint32_t, std::uint32_t> cache;
        std::set<std::string> used;  // keys of explicit_map
    };
    void add_explicit(Kind& kind, const std::map<std::string, std::string>& entries);
    std::uint32_t resolve(Kind& kind, std::uint32_t stored);
    std::optional<std::string> stored_name(const Kind& kind, std::uint32_t stored) const;

    const Repository& repository_;
    const Manifest& backup_;
    bool numeric_;
    Report& report_;
    mutable std::mutex mutex_;
    Kind users_{"user", true, {}, {}, {}};
    Kind groups_{"group", false, {}, {}, {}};
};

}  // namespace nodesnap
