#include "snapshot/restore/owners.h"

#include <charconv>
#include <cstring>
#include <limits>

#include "platform/error.h"
#include "platform/host.h"

namespace nodesnap {
namespace {

std::optional<std::uint32_t> parse_id(const std::string& text) {
    std::uint32_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(id) : std::nullopt;
}

std::optional<std::uint32_t> local_id(bool users, const std::string& name) {
    return users ? user_id(name) : group_id(name);
}

// The stored form of a POSIX ACL: a version, then entries of a tag, permissions and an id; little-endian (linux/posix_acl_xattr.h).
constexpr std::size_t kAclHeader = 4;
constexpr std::size_t kAclEntry = 8;
constexpr std::uint8_t kAclVersion = 2;
constexpr std::uint8_t kAclUser = 0x02;
constexpr std::uint8_t kAclGroup = 0x08;

std::uint32_t load_little(const std::byte* from) {
    std::uint32_t value = 0;
    for (int i = 3; i >= 0; --i) {
        value = value << 8 | std::to_integer<std::uint32_t>(from[i]);
    }
    return value;
}

void store_little(std::byte* to, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) {
        to[i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
    }
}

Error unknown_here(const std::string& word, const std::string& from, const std::string& to) {
    return Error::usage("the owner mapping \"" + from + "=" + to + "\" names a " + word + " that this host doesn't have",
                        "create the " + word + " first, or give a numeric id");
}

Error impossible(const std::string& word, const std::string& from, const std::string& to) {
    return Error::usage("the owner mapping \"" + from + "=" + to + "\" names an id that no " + word + " can have",
                        "ids are numbers up to 4294967294");
}

}  // namespace

OwnerMap::OwnerMap(const Repository& repository, const Manifest& backup, const OwnerOptions& options, Report& report)
    : repository_(repository), backup_(backup), numeric_(options.numeric_ids), report_(report) {
    add_explicit(users_, options.users);
    add_explicit(groups_, options.groups);
}

void OwnerMap::add_explicit(Kind& kind, const std::map<std::string, std::string>& entries) {
    for (const auto& [from, to] : entries) {
        auto id = local_id(kind.users, to);
        if (!id) {
            id = parse_id(to);
        }
        if (!id) {
            throw unknown_here(kind.word, from, to);
        }
        if (*id == std::numeric_limits<std::uint32_t>::max()) {
            throw impossible(kind.word, from, to);
        }
        kind.explicit_map[from] = *id;
    }
}

std::uint32_t OwnerMap::user(std::uint32_t stored) {
    return resolve(users_, stored);
}

std::uint32_t OwnerMap::group(std::uint32_t stored) {
    return resolve(groups_, stored);
}

std::uint32_t OwnerMap::resolve(Kind& kind, std::uint32_t stored) {
    const std::lock_guard lock(mutex_);
    if (const auto known = kind.cache.find(stored); known != kind.cache.end()) {
        return known->second;
    }
    const auto name = stored_name(kind, stored);
    auto result = stored;
    auto mapped = name ? kind.explicit_map.find(*name) : kind.explicit_map.end();
    if (mapped == kind.explicit_map.end()) {
        mapped = kind.explicit_map.find(std::to_string(stored));
    }
    if (mapped != kind.explicit_map.end()) {
        result = mapped->second;
        kind.used.insert(mapped->first);
    } else if (name && !numeric_) {
        if (const auto here = local_id(kind.users, *name)) {
            result = *here;
        } else {
            report_.warn(std::string("this host has no ") + kind.word + " " + *name + ": id " + std::to_string(stored) + " is kept");
        }
    }
    if (kind.cache.size() >= kCacheLimit) {
        kind.cache.clear();
    }
    kind.cache.emplace(stored, result);
    return result;
}

std::optional<std::string> OwnerMap::stored_name(const Kind& kind, std::uint32_t stored) const {
    const auto value = tree_find(repository_.nodes(), backup_.tree, kind.users ? key::user(stored) : key::group(stored));
    return value ? std::optional(decode_owner_name(*value)) : std::nullopt;
}

std::vector<std::string> OwnerMap::used() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> result;
    for (const auto* kind : {&users_, &groups_}) {
        for (const auto& name : kind->used) {
            result.push_back(std::string(kind->word) + ":" + name);
        }
    }
    return result;
}

void OwnerMap::add_used(const std::vector<std::string>& used) {
    const std::lock_guard lock(mutex_);
    for (auto* kind : {&users_, &groups_}) {
        const auto prefix = std::string(kind->word) + ":";
        for (const auto& entry : used) {
            if (entry.starts_with(prefix)) {
                kind->used.insert(entry.substr(prefix.size()));
            }
        }
    }
}

void OwnerMap::tell_unused() const {
    const std::lock_guard lock(mutex_);
    for (const auto* kind : {&users_, &groups_}) {
        for (const auto& [name, id] : kind->explicit_map) {
            if (!kind->used.contains(name)) {
                report_.warn(std::string("nothing that was restored belonged to ") + kind->word + " " + name + ", which was to become " +
                             kind->word + " " + std::to_string(id));
            }
        }
    }
}

Bytes OwnerMap::acl(std::span<const std::byte> value) {
    Bytes result(value.begin(), value.end());
    if (value.size() < kAclHeader || (value.size() - kAclHeader) % kAclEntry != 0 || load_little(value.data()) != kAclVersion) {
        return result;
    }
    for (std::size_t at = kAclHeader; at < result.size(); at += kAclEntry) {
        const auto tag = std::to_integer<std::uint32_t>(result[at]) | std::to_integer<std::uint32_t>(result[at + 1]) << 8;
        std::byte* const id = result.data() + at + 4;
        if (tag == kAclUser) {
            store_little(id, user(load_little(id)));
        } else if (tag == kAclGroup) {
            store_little(id, group(load_little(id)));
        }
    }
    return result;
}

}  // namespace nodesnap
