// Verify and repair: proves that backups can be restored, and restores lost redundancy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct VerifyOptions {
    std::string backup;  // as for Repository::find_backup(); empty: all, unless as_of_ns says which
    std::optional<std::int64_t> as_of_ns;
    bool data = false;  // read and check every block of file data
    // More take more memory than a command may have. 0: one for each CPU.
    static constexpr unsigned kWorkersLimit = 8;
    unsigned workers = 0;
    bool force_blocking = false;
    std::uint64_t limit_bytes_per_second = 0;
    std::string scratch_directory;  // empty: $TMPDIR or /var/tmp
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
    bool needs_repair() const { return damage_count != 0; }
};
// Reads only; needs no lease. Damage in one backup doesn't keep the others from being checked. Throws Error if something other than damage
// keeps it from working, or if the backup that was asked for can't be found.
VerifyResult run_verify(Repository& repository, const VerifyOptions& options, Progress& progress);

struct RepairResult {
    std::vector<std::string> repaired;  // objects that have all their copies again; at most Report::kKept
    std::uint64_t repaired_count = 0;
    std::vector<Damage> lost;  // what no copy can heal; at most Report::kKept
    std::uint64_t lost_count = 0;
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
