// Bounds the snapshots that backups keep as parents of the next ones, before they fill the node's file system. What an operator made, or
// had kept, is never dropped. See docs/design.md, "Incremental backups".
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/backend/backend.h"
#include "snapshot/report.h"

namespace nodesnap {

// What a snapshot is, as far as its name and its neighbours tell: only the repository, which isn't at hand, knows for certain.
enum class SnapshotRole {
    kOperators,   // made by `snapshot create`, or kept with --keep-snapshot
    kParent,      // of the next backup into a repository
    kUnfinished,  // the newest of several of one repository: of a backup that was cut off, or the parent after one that could not tidy up
    kUnknown,     // a backup's by its name, which names no repository
};
std::string to_string(SnapshotRole role);  // "operator's", "parent", "unfinished", "unknown"

struct ClassifiedSnapshot {
    SnapshotEntry entry;
    SnapshotRole role = SnapshotRole::kUnknown;
    std::string repository;  // the first digits of its UUID; empty if the role has none
};
// Of all snapshots of a node directory, in their order: the oldest first.
std::vector<ClassifiedSnapshot> classify(const std::vector<SnapshotEntry>& entries);

struct TrimOptions {
    std::optional<std::uint64_t> min_free_bytes;
    std::optional<std::chrono::nanoseconds> max_age;
    std::optional<std::size_t> max_count;
    bool dry_run = false;
    std::int64_t now_ns = 0;  // UTC
};

struct DroppedSnapshot {
    ClassifiedSnapshot snapshot;
    std::chrono::nanoseconds age{0};
    std::uint64_t held_bytes = 0;  // about
    std::string reason;            // "age", "count", "free"
};

struct TrimResult {
    std::vector<DroppedSnapshot> dropped;    // or with dry_run: that would be
    std::vector<ClassifiedSnapshot> in_use;  // would have been dropped, but a backup uses them
    std::uint64_t free_bytes = 0;            // in the end; with dry_run: about as it would be
    std::uint64_t used_bytes = 0;
    bool enough = true;  // min_free_bytes is reached
};

// Bytes that can still be written to the file system of the node directory.
struct FreeSpace {
    std::uint64_t free_bytes = 0;
    std::uint64_t used_bytes = 0;
};
using FreeSpaceProbe = std::function<FreeSpace()>;

// `dropped` is told of each one at once, when it has gone (with dry_run: when it is decided).
TrimResult trim_snapshots(SnapshotBackend& backend, const TrimOptions& options, const FreeSpaceProbe& probe,
                          const std::function<void(const DroppedSnapshot&, const FreeSpace&)>& dropped, Report& report);

// What dropping it costs, as a sentence for the log.
std::string describe(const DroppedSnapshot& dropped, std::uint64_t used_bytes, bool dry_run);

}  // namespace nodesnap
