// Restore: rebuilds a node directory, or part of it, from one backup. See docs/design.md, "Restore".
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// Whose files they become. By name first, then by id; owner_map entries ("user:backup=local", names or ids) go before both.
struct OwnerOptions {
    bool numeric_ids = false;
    std::map<std::string, std::string> users;
    std::map<std::string, std::string> groups;
};

struct RestoreOptions {
    static constexpr unsigned kWorkersLimit = 8;

    std::string destination;
    std::vector<std::string> paths;  // --path, bytes, relative to the node directory; empty: everything
    OwnerOptions owners;
    std::vector<std::string> gate_files = {"CURRENT", "PG_VERSION"};
    // Makes a directory that holds something already what the backup says, writing only what differs: in a clone beside it that is
    // exchanged for it, or, with `in_place`, in the directory itself. One that is empty or isn't there is restored in full.
    bool delta = false;
    bool in_place = false;
    bool keep_old = false;      // of a clone: what was there stays, beside it, with kOldSuffix
    bool use_snapshots = true;  // of a clone: what a local snapshot of a backup holds needn't be read
    static constexpr const char* kOldSuffix = ".before-restore";

    // Refused, with nothing touched: an engine here that is older than the one that was backed up, and the place of another node.
    std::string version_command;  // prints the version of the engine that is installed here; empty: it isn't asked
    bool allow_older_engine = false;
    std::string state_directory;  // where this host remembers its nodes; empty: it isn't asked
    bool allow_other_node = false;
    // Likewise: a directory that processes have open, who go on with what was there, and less space than it is estimated to need.
    bool allow_in_use = false;
    bool allow_low_space = false;

    bool dry_run = false;
    bool force_blocking = false;
    // Zeros for what the backup hasn't got: not read from its source, or damaged since. Of what is damaged since a delta restore keeps the
    // data that was there.
    bool accept_incomplete = false;
    unsigned workers = 0;  // at most kWorkersLimit; 0: one for each CPU, at most 4
    std::uint64_t limit_bytes_per_second = 0;
    std::chrono::milliseconds checkpoint_interval{30'000};  // how often what has been written is made durable, to go on from there
};

// A part of a file that the backup hasn't got. Zeros stand for it, or what was there before.
struct LostRange {
    enum class Cause {
        kSource,  // it couldn't be read when the backup was made
        kStored,  // it is damaged in the repository
        kKept,    // likewise, and what a delta restore began with had data there: that stays, proved by nothing
    };
    std::string path;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;  // 0 (kSource): what is missing isn't known
    Cause cause = Cause::kSource;
    bool operator==(const LostRange&) const = default;
};

struct RestoreResult {
    std::uint64_t files = 0, directories = 0, others = 0;
    std::uint64_t bytes = 0;           // of data written (or to write, in a dry run)
    std::uint64_t required_bytes = 0;  // space the destination needs
    // Of a delta restore: what it began with ("snapshot", "clone", "in place"; empty: it was a full one), the backup whose snapshot that
    // was, the bytes that were there already, and where the old directory was kept.
    std::string basis;
    std::string basis_backup;
    std::uint64_t kept_bytes = 0;
    // Regular files, against what it began with: names that weren't there, files that got other contents, names that are gone.
    std::uint64_t files_created = 0, files_changed = 0, files_removed = 0;
    std::string old_kept_as;
    std::vector<LostRange> lost;     // each is a warning too
    std::uint64_t lost_further = 0;  // ranges that were too many to be in `lost`
    bool resumed = false;
    std::string placed_as;  // "subvolume", "directory", "into the mount", "in place"
    std::chrono::nanoseconds elapsed{0};
    std::chrono::nanoseconds estimate{0};  // dry run: from a sample read of the repository and write to the destination's file system
    std::string io_fallback_reason;
};

RestoreResult run_restore(Repository& repository, const Manifest& backup, const RestoreOptions& options, Progress& progress,
                          Report& report);

// Writes one regular file (or a symlink's target) of a backup to a descriptor, every block verified before it is written. What the backup
// hasn't got of it is refused before anything is written, or, where it is damaged in the repository, ends the output with Error::damaged;
// with `accept_incomplete` zeros stand for it, and each range is a warning.
struct DumpOptions {
    bool accept_incomplete = false;
    std::string output_name = "standard output";  // for messages
};
void dump_file(Repository& repository, const Manifest& backup, const std::string& path, int out, const DumpOptions& options,
               Report& report);

}  // namespace nodesnap
