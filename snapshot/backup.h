// Backup: one backup from preflight to retire. See docs/design.md, "One backup".
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "io/throttle.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backup/gates.h"
#include "snapshot/drain/drain.h"
#include "snapshot/hold/options.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct BackupOptions {
    std::string node_directory;
    BackendOptions backend;
    hold::Options hold;  // node_directory and state_directory are those of the backup
    std::vector<std::string> excludes;
    std::vector<std::string> tags;
    std::string profile;                              // that was named; it is only noted
    std::vector<std::string> capture;                 // files and directories elsewhere that are kept with the backup
    std::string version_command;                      // prints the engine's version, which is noted; empty: it isn't known
    Consistency needed = Consistency::kInconsistent;  // refused where the backup can't have it, unless backend.accept_inconsistent
    std::uint64_t limit_bytes_per_second = 0;         // --limit; 0: none
    bool skip_unreadable = false;
    bool keep_snapshot = false;            // under a name of its own: no later backup removes it
    bool drop_snapshot = false;            // no snapshot stays, so that the next backup reads everything
    bool audit = false;                    // compare all that the change list called unchanged, not a sample only
    bool full = false;                     // read and store everything, whatever earlier backups hold
    bool no_resume = false;                // begin anew, where an unfinished backup could be gone on with
    std::optional<SessionId> resume_only;  // go on with this one, or fail
    bool adopt_node = false;
    bool force_blocking = false;  // --no-io-uring
    unsigned workers = 0;         // 0: one per CPU that this process may use
    std::string state_directory = "/var/lib/nodesnap";
    std::string scratch_directory;  // empty: $TMPDIR or /var/tmp
    DrainSizes sizes;
    LeaseOptions lease;
    BackupGates* gates = nullptr;                   // of a part of a cluster backup
    std::shared_ptr<const Throttle::Cap> cap = {};  // besides the limit: one that may be changed meanwhile
};

struct BackupResult {
    Manifest manifest;
    std::string backend;
    std::string backend_reason;
    std::string snapshot_path;          // when it was kept
    std::string held;                   // what was, while the snapshot was taken; "" without --hold, and of a backup that was resumed
    unsigned passes = 0;                // in which a directory without a snapshot was read, the last while all was held; 0: it wasn't
    std::uint64_t held_read_bytes = 0;  // in that last one
    std::uint64_t held_files = 0;       // that were looked into then
    std::string hold_doubt;             // why the snapshot isn't a point in time for all that
    bool resumed = false;               // went on with a backup that was cut off: of the time of its snapshot
    std::uint64_t resumed_bytes = 0;    // that it had stored
    std::string resume_refused;         // why one that was cut off wasn't gone on with
    std::string parent_missing;         // why everything was read; empty: only what has changed since manifest.parent was
    bool records_told = false;          // but DrainParent::records_tell: not what is never written to again, and hasn't been
    std::chrono::nanoseconds drain_time{0};
    std::chrono::nanoseconds total_time{0};
    std::string io_fallback_reason;      // empty while io_uring was used
    std::uint64_t audited_bytes = 0;     // that were compared with the source although nothing called them changed
    bool audited_all = false;            // that was taken over (--audit), and nothing differed
    std::uint64_t cleared_sessions = 0;  // remains of dead backups that were removed
};

// Throws Error; then no backup is visible, the snapshot is removed and the earlier backups are as they were. The result is `damaged` only
// with skip_unreadable.
BackupResult run_backup(Repository& repository, const BackupOptions& options, Progress& progress, Report& report);

// What a backup would read, by metadata alone: of the directory as it is now. Takes no snapshot, no lease, and writes nothing.
struct BackupPlan {
    std::string backend;
    std::string backend_reason;
    std::optional<SessionId> parent;   // that it would build on
    std::string parent_missing;        // why everything would be read; empty: only what has changed since the parent was
    std::optional<SessionId> resumes;  // the backup that was cut off, and would be gone on with instead; what it has yet to read isn't told
    std::uint64_t files = 0;           // that are new, or may have changed
    std::uint64_t read_bytes = 0;
    // With a change list as much as is read; where contents are compared, it shows only by reading.
    std::optional<std::uint64_t> stored_bytes;
};
BackupPlan plan_backup(const Repository& repository, const BackupOptions& options, Progress& progress, Report& report);

}  // namespace nodesnap
