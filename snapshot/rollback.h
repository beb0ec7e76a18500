// Rollback: puts a local snapshot of a node directory in its place, and keeps what was there as another one. See docs/design.md, "Rolling
// back".
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/backend/backend.h"
#include "snapshot/hold/options.h"
#include "snapshot/report.h"

namespace nodesnap {

struct RollbackOptions {
    std::string node_directory;
    std::string snapshot;            // as `snapshot list` shows it, or "latest"
    std::string snapshot_directory;  // --snapshot-dir, empty: the documented place
    std::string kind = "auto";       // of the node's snapshots, as BackendOptions::kind
    // Patterns; where files can't be cloned, rolling back to what an earlier rollback has replaced: what is never written to, and so is
    // linked.
    std::vector<std::string> immutable;
    bool dry_run = false;
    bool allow_in_use = false;        // although processes have something of it open: they keep what was there; read-only on btrfs
    bool whole_volume = false;        // of LVM: although there is more on the volume, which goes back too
    bool allow_stale_mounts = false;  // although other mounts go on showing what was there
    hold::Options hold;               // kNone or kStop
    std::string fstab = "/etc/fstab";
};

struct RollbackResult {
    SnapshotEntry snapshot;
    Layout layout = Layout::kSubvolume;
    std::string volume;     // "vg/data" where a logical volume goes back as a whole; else empty
    std::string kept_as;    // the name of the snapshot of what was there; in a dry run as it would be called now
    std::string kept_path;  // not in a dry run
    // Of a subvolume; otherwise 0.
    std::uint64_t replaced_subvolume = 0;
    std::uint64_t subvolume = 0;  // that the path shows now; not in a dry run
    std::vector<std::string> stale_mounts;
    std::chrono::nanoseconds exchange_time{0};         // until it was durable
    std::chrono::nanoseconds total_time{0};            // without stopping and starting
    std::optional<std::chrono::nanoseconds> downtime;  // with a hold
};

// Throws Error; if it is Error::refused nothing was touched, and otherwise the directory is as it was, unless the message says that it was
// rolled back. What a rollback that was cut off has left is ended first, with a warning. Needs CAP_SYS_ADMIN.
// `progress` is told where that takes longer than an exchange.
RollbackResult run_rollback(const RollbackOptions& options, Progress& progress, Report& report);

// Ends a rollback of the directory that was cut off, if there is one, with a warning that says what the directory is now. It never fails:
// that it couldn't be ended is a warning too. To be called before anything of the directory is opened.
void finish_rollback(const std::string& node_directory, const std::string& snapshot_directory, Report& report);

}  // namespace nodesnap
