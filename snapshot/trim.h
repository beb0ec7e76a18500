// Bounds the snapshots that backups keep as parents of the next ones, before they fill the node's file system. What an operator made, or
// had kept, is never dropped. See docs/design.md, "Incremental backups".
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "snapshot/backend/backend.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// What a snapshot is. The repository knows; where it isn't at hand, name and neighbours tell as much as they can.
enum class SnapshotRole {
    kOperators,   // made by `snapshot create`, or kept with --keep-snapshot
    kRolledBack,  // what was there before a rollback
    kParent,      // of the next backup into a repository
    kUnfinished,  // of a backup that was cut off and can be gone on with; unless `certain`: the newest of several of one repository
    kLeft,        // of a backup that was cut off and can't be gone on with: the next one removes it
    kUnknown,     // a backup's by its name, which names no repository
};
std::string to_string(SnapshotRole role);  // "operator's", "before-rollback", "parent", "unfinished", "left", "unknown"

struct ClassifiedSnapshot {
    SnapshotEntry entry;
    SnapshotRole role = SnapshotRole::kUnknown;
    std::string repository;          // the first digits of its UUID; empty if the role has none
    bool certain = false;            // its repository says so
    bool may_be_unfinished = false;  // it is, or it can't be told that it isn't: the newest one of a repository that isn't at hand
};

// What a repository that is at hand says of the snapshots that its backups made.
struct KnownRepository {
    std::string digits;                // the first ones of its UUID
    std::set<std::string> unfinished;  // names of snapshots from which a backup can go on
    // Names that the snapshots of its backups have; nullopt if not all of them can be read.
    std::optional<std::set<std::string>> parents = std::nullopt;
};
KnownRepository known_repository(const Repository& repository);

// Of all snapshots of a node directory, in their order: the oldest first.
std::vector<ClassifiedSnapshot> classify(const std::vector<SnapshotEntry>& entries, const std::vector<KnownRepository>& known = {});

struct TrimOptions {
    std::optional<std::uint64_t> min_free_bytes;
    std::optional<std::chrono::nanoseconds> max_age;
    std::optional<std::size_t> max_count;
    bool dry_run = false;
    std::int64_t now_ns = 0;  // UTC
    std::vector<KnownRepository> known = {};
};

struct DroppedSnapshot {
    ClassifiedSnapshot snapshot;
    std::chrono::nanoseconds age{0};
    std::uint64_t held_bytes = 0;  // about
    std::string reason;            // "age", "count", "free"
    bool only_if_needed = false;   // with dry_run: it can't be told whether those before it will have been enough
};

struct TrimResult {
    std::vector<DroppedSnapshot> dropped;     // or with dry_run: that would be
    std::vector<ClassifiedSnapshot> in_use;   // would have been dropped, but a backup uses them
    std::vector<ClassifiedSnapshot> useless;  // would have been dropped for space, but as far as can be told none would come free
    // Too old or too many, but an unfinished backup may go on from them, and they aren't needed for space.
    std::vector<ClassifiedSnapshot> resumable;
    std::uint64_t free_bytes = 0;  // in the end; with dry_run: about as it would be
    std::uint64_t used_bytes = 0;
    bool enough = true;  // min_free_bytes is reached
    // False after a dry run that found nothing free: the file system's own trees may be full, and what comes free then is known only when
    // it has. `free_bytes` is what the snapshots hold, and says nothing; `enough` neither, unless it is true.
    bool free_known = true;
};

// Bytes that can still be written to the file system of the node directory.
struct FreeSpace {
    std::uint64_t free_bytes = 0;
    std::uint64_t used_bytes = 0;
};
using FreeSpaceProbe = std::function<FreeSpace()>;

// The oldest first; what an unfinished backup may go on from last, and for space only as long as one may go on from it. For space none is
// dropped that holds nothing alone, unless another one that could still be dropped might hold it with it, or nothing at all is free: then
// the file system's own trees may be full, of which it isn't known what holds them.
// `dropped` is told of each one at once, when it has gone (with dry_run: when it is decided).
TrimResult trim_snapshots(SnapshotBackend& backend, const TrimOptions& options, const FreeSpaceProbe& probe,
                          const std::function<void(const DroppedSnapshot&, const FreeSpace&)>& dropped, Report& report);

// What dropping it costs, as a sentence for the log.
std::string describe(const DroppedSnapshot& dropped, std::uint64_t used_bytes, bool dry_run);

}  // namespace nodesnap
