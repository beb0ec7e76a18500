// Manifest: the root of one backup. A backup exists when its manifest does. See docs/format.md, "Manifests".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/repository/cut_part.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

enum class Consistency : std::uint8_t { kPointInTime = 1, kCrashConsistent = 2, kInconsistent = 3 };
std::string to_string(Consistency consistency);  // "point-in-time", "crash-consistent", "inconsistent"

// The node that a repository belongs to. `uuid` is null until the first backup.
struct NodeIdentity {
    Uuid uuid;
    std::string name;
    std::string machine_id;
    std::string file_system_uuid;
    std::string path;  // of the node directory
    bool operator==(const NodeIdentity&) const = default;
};

// What must still hold for a snapshot to be the parent of the next backup.
struct SnapshotProof {
    std::string backend;  // "btrfs", "none"
    std::string path;     // of the snapshot, empty if it was removed
    std::string file_system_uuid;
    Uuid subvolume_uuid;
    std::uint64_t otransid = 0;
    std::uint64_t ctransid = 0;
    bool read_only = false;
    bool operator==(const SnapshotProof&) const = default;
};

// A file from outside the node directory that the operator wanted kept with the backup: configuration, keys.
struct CapturedFile {
    std::string path;  // absolute
    std::uint16_t mode = 0;
    std::uint32_t uid = 0, gid = 0;
    Time modified;
    std::string content;
    bool operator==(const CapturedFile&) const = default;
};
inline constexpr std::uint64_t kCapturedLimit = 64U << 10;  // bytes of content in all: every manifest that is read is in memory

struct Manifest {
    SessionId id;
    layout::ManifestName name{};
    std::uint64_t epoch = 0;            // of the lease it was written under
    std::int64_t snapshot_time_ns = 0;  // UTC, when the snapshot was taken
    std::int64_t finished_time_ns = 0;
    std::int64_t snapshot_duration_ns = 0;
    std::int64_t held_ns = 0;  // downtime; 0 when not held
    Consistency consistency = Consistency::kCrashConsistent;
    bool damaged = false;           // parts of the source could not be read
    bool pinned = false;            // must be kept, until that is taken back
    std::vector<std::string> pins;  // who wants that, and why; may be empty
    std::string host_name;
    std::string tool_version;
    std::string profile;         // that the backup was made with; empty: none was named
    std::string engine_version;  // as the database's own program told it; empty: not known
    std::vector<std::string> excludes;
    std::vector<std::string> tags;
    std::optional<SessionId> parent;
    SnapshotProof proof;
    NodeIdentity node;
    std::uint64_t hash_seed = 0;  // of the repository, so that repository.json can be rebuilt
    std::int64_t repository_created_ns = 0;
    TreeRoot tree;
    std::uint64_t root_ino = 0;
    std::vector<PackId> packs;              // written by this backup, data and metadata
    std::vector<std::uint64_t> pack_bytes;  // of each of `packs`, as generation 0; 0: not known; shorter than `packs`: nor are the others
    std::vector<CapturedFile> captured;     // paths ascend
    std::optional<CutPart> cut;             // of a part of a cluster backup
    std::vector<PackId> avoided_packs;      // known as damaged or missing; nothing in the tree refers to them; ascending
    struct Totals {
        std::uint64_t files = 0, directories = 0, others = 0;
        std::uint64_t logical_bytes = 0;  // sizes of the files
        std::uint64_t data_bytes = 0;     // in runs and inline content, holes left out
        std::uint64_t read_bytes = 0;     // from the source
        std::uint64_t stored_bytes = 0;   // written to the target, packs and footers
        std::uint64_t referenced_bytes = 0;
        std::uint64_t unreadable_files = 0;
        bool operator==(const Totals&) const = default;
    } totals;
    bool may_rewrite = true;  // not stored: false if it has features that this version would lose in a new revision
};

inline constexpr std::size_t kPinsLimit = 256;
inline constexpr std::uint64_t kManifestObjectLimit = 48ULL << 20;  // bytes of the stored object, both copies

Bytes encode_manifest(const Uuid& repository, const Manifest& manifest);
// Takes the good copy; damage of the other goes to `sink`. Throws Error::damaged if neither is good. nullopt for a VOID object.
std::optional<Manifest> decode_manifest(std::span<const std::byte> object, const std::string& object_name, const Uuid& repository,
                                        const DamageSink& sink);
// Reads an object block by block where its device fails, so that one bad sector doesn't cost both copies. nullopt (outer) if there is no
// such object; otherwise as decode_manifest. What can't be read is an Error::damaged too, with the device's errno.
std::optional<std::optional<Manifest>> load_manifest(Target& target, const std::string& object_name, const Uuid& repository,
                                                     const DamageSink& sink);
// The session that a VOID object names, whichever of its copies is good; nullopt if it isn't one that this version may rewrite.
std::optional<SessionId> session_of_mark(std::span<const std::byte> object, const std::string& object_name, const Uuid& repository);
Bytes encode_void_manifest(const Uuid& repository, const SessionId& session, std::uint32_t revision);

}  // namespace nodesnap
