// Verify and repair: proves that backups can be restored, and restores lost redundancy.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// How much of the file data to read and check: so many bytes, or such a share of what is in scope.
struct Sample {
    std::uint64_t bytes = 0;
    double percent = 0;  // counts if it isn't 0
};

struct VerifyOptions {
    std::string backup;  // as for Repository::find_backup(); empty: all, unless as_of_ns says which
    std::optional<std::int64_t> as_of_ns;
    bool data = false;  // read and check file data: every block of it, unless the next two say which
    // Packs that were never checked, then those whose last check is the longest ago, until that much is reached; at least one. Those that
    // were found damaged come first, but take at most half of it.
    std::optional<Sample> sample;
    std::optional<std::chrono::nanoseconds> since;  // only packs that weren't checked within this time
    // More take more memory than a command may have. 0: one for each CPU.
    static constexpr unsigned kWorkersLimit = 8;
    unsigned workers = 0;
    bool force_blocking = false;
    std::uint64_t limit_bytes_per_second = 0;
    std::string scratch_directory;  // empty: $TMPDIR or /var/tmp
    // What tests set. The time when it begins, 0 asks the clock; and how much is checked before it is remembered, at most.
    std::int64_t now_ns = 0;
    std::uint64_t remember_bytes = 1ULL << 30;
};

// How much of the data of the backups that were verified has been checked, and when. Whole packs are counted.
struct Coverage {
    struct Amount {
        std::uint64_t packs = 0, bytes = 0;
        void add(std::uint64_t pack_bytes) {
            ++packs;
            bytes += pack_bytes;
        }
    };
    static constexpr std::chrono::hours kWindow{30 * 24};

    Amount all;
    Amount now;                             // read in this run, and whole
    Amount recent;                          // whole when they were last read, within `window`
    Amount ever;                            // whole when they were last read
    Amount rewritten;                       // not checked since they were rewritten; they count as never checked
    Amount damaged;                         // not whole when they were last read, or can't be opened now
    std::optional<std::int64_t> oldest_ns;  // the longest ago of the last checks of those in `ever`
    std::chrono::nanoseconds window = kWindow;
    std::string not_remembered;  // why (not all of) what was checked now could be remembered; empty: it was
};

struct VerifyResult {
    std::uint64_t backups = 0, objects = 0, nodes = 0, segments = 0;
    std::uint64_t bytes_read = 0;
    std::vector<Damage> damages;  // at most Report::kKept
    std::uint64_t damage_count = 0;
    std::uint64_t lost_count = 0;       // not healed by another copy
    std::vector<std::string> affected;  // "backup 0a1b..., data/000012.sst, bytes 65536 to 131071"; at most Report::kKept
    std::uint64_t affected_count = 0;
    std::vector<std::string>
        information;  // no damage, but worth knowing: packs that no backup refers to, other objects; at most Report::kKept
    Coverage coverage;
    bool needs_repair() const { return damage_count != 0; }
};
// Reads only, but for what it remembers of data that was checked, where it can; needs no lease. Damage in one backup doesn't keep the
// others from being checked. Throws Error if something other than damage keeps it from working, or if the backup that was asked for can't
// be found.
VerifyResult run_verify(Repository& repository, const VerifyOptions& options, Progress& progress);

struct RepairResult {
    std::vector<std::string> repaired;  // objects that have all their copies again; at most Report::kKept
    std::uint64_t repaired_count = 0;
    std::vector<Damage> lost;  // what no copy can heal; at most Report::kKept
    std::uint64_t lost_count = 0;
    // File data that verify has found damaged, and that the newest backup needs. It has no other copy here: a whole backup heals it, as far
    // as the node still has it.
    std::uint64_t damaged_data_packs = 0;
    std::string damaged_data_example;  // one of these packs, and what is wrong with it
};
// Gives up the backups that these manifests' names mean ("backups/0000000001-..."), of which no copy of any revision can be read: what is
// left of them is kept as "lost/backups/...", and marks take their places. Nothing else is touched: what other backups refer to stays, and
// so do the packs. Error::usage or refused, with nothing touched, if one of them isn't a manifest's name, isn't there or can be read.
// Returns the names of what was dropped. Needs the lease. Memory: the objects, up to 48 MiB each.
std::vector<std::string> drop_lost_backups(Repository& repository, const Lease& lease, const std::vector<std::string>& objects);

// Looks at both copies of everything that has two (not at file data). Rewrites each object that has lost a copy as its next generation or
// revision, durable before the old one is removed. Needs the lease.
RepairResult run_repair(Repository& repository, const Lease& lease, Progress& progress);

}  // namespace nodesnap
