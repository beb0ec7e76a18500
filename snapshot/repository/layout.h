// Where objects lie in a repository: the one place that spells their names. See docs/format.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "snapshot/repository/ids.h"

namespace nodesnap::layout {

inline constexpr std::string_view kRepository = "repository.json";
inline constexpr std::string_view kRepositoryCopy = "repository.json.copy";
inline constexpr std::string_view kExclusiveLock = "locks/exclusive";
inline constexpr std::string_view kBackups = "backups/";
inline constexpr std::string_view kDataPacks = "packs/";
inline constexpr std::string_view kNodePacks = "nodes/";
inline constexpr std::string_view kJournal = "journal/";
inline constexpr std::string_view kChecks = "checks/";
inline constexpr std::string_view kInventory = "inventory";
inline constexpr std::string_view kClusters = "clusters/";
inline constexpr std::string_view kReceipts = "receipts/";
inline constexpr std::string_view kClientLease = "receipts/lease";
inline constexpr std::string_view kRoll = "receipts/kept";

inline constexpr std::uint64_t kSequenceLimit = 9'999'999'999;  // the highest that a manifest's name can say

enum class PackKind : std::uint8_t { kData, kNodes };

struct PackName {
    PackKind kind;
    PackId id;
    std::uint32_t generation;
};

struct ManifestName {
    std::uint64_t sequence;
    std::int64_t utc_seconds;
    std::uint32_t revision;
    bool same_backup(const ManifestName& other) const { return sequence == other.sequence && utc_seconds == other.utc_seconds; }
};

std::string pack(const PackName& name);
std::string manifest(const ManifestName& name);
std::string session(const SessionId& id);
std::string draft(const SessionId& id);
std::string pack_log(const PackId& id);
std::string shared_lock(const SessionId& id);
std::string receipt(const ManifestName& name);  // of all its revisions
std::string checks(std::uint8_t first_byte);    // when the data of the packs whose ids begin so was checked
std::string cut(const Uuid& id);                // what a cluster backup was to be
std::string cut_given_up(const Uuid& id);       // the mark that nothing more comes of it
std::string cut_forgotten(const Uuid& id);      // the mark that its parts may go
std::string remains(std::string_view object);   // what is left of an object that was given up

// nullopt for names that aren't of this kind.
std::optional<PackName> parse_pack(std::string_view name);
std::optional<ManifestName> parse_manifest(std::string_view name);
std::optional<ManifestName> parse_receipt(std::string_view name);  // with revision 0
std::optional<SessionId> parse_session(std::string_view name);
std::optional<SessionId> parse_draft(std::string_view name);
std::optional<PackId> parse_pack_log(std::string_view name);
std::optional<Uuid> parse_cut(std::string_view name);
std::optional<Uuid> parse_cut_given_up(std::string_view name);
std::optional<Uuid> parse_cut_forgotten(std::string_view name);

}  // namespace nodesnap::layout
