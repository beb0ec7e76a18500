// Prune: gives back the space of what no backup refers to any more. See docs/design.md, "Forgetting".
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "io/progress.h"
#include "snapshot/prune/merge.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct PruneOptions {
    static constexpr unsigned kMaxUnusedPercent = 50;
    // A pack is rewritten without what no backup uses when that is more than this part of it; 100: never.
    unsigned max_unused_percent = kMaxUnusedPercent;
    std::uint64_t limit_bytes_per_second = 0;  // of what is read and written of data, together; 0: no cap
    MergeWhen merge = MergeWhen::kAffordable;  // write the fragmented parts of the newest backup's files anew first
    std::string scratch_directory;             // for what doesn't fit in memory; empty: the default one
    std::set<SessionId> without;               // plan_prune(): backups that count as forgotten
    bool allow_no_backup = false;              // remove all packs where there is no backup
};

struct PruneResult {
    std::uint64_t backups = 0;
    std::uint64_t merged_files = 0, merged_bytes = 0;        // or to be merged
    std::uint64_t left_fragmented_bytes = 0;                 // not merged, for the space it would take
    std::uint64_t merge_free_bytes = 0;                      // with left_fragmented_bytes: what was free then
    std::uint64_t merge_needed_bytes = 0;                    // and what it takes
    std::uint64_t kept_packs = 0, kept_bytes = 0;            // afterwards
    std::uint64_t unused_bytes = 0;                          // of kept_bytes, in packs that stay as they are
    std::uint64_t removed_packs = 0, removed_bytes = 0;      // or to be removed
    std::uint64_t rewritten_packs = 0, rewritten_bytes = 0;  // or to be rewritten; the bytes that are written
    std::uint64_t rewriting_freed_bytes = 0;                 // what is less afterwards
    std::uint64_t left_damaged_packs = 0;                    // not rewritten, since they aren't whole
    std::uint64_t left_packs_for_space = 0;                  // not rewritten, since the target is full
    std::uint64_t unfinished_packs = 0;                      // of backups that aren't finished, or whose end can't be told: they stay
    std::uint64_t cleared_sessions = 0;
};

// What run_prune() would do. Needs no lease; a backup that runs meanwhile is left out of account.
PruneResult plan_prune(const Repository& repository, const PruneOptions& options, Report& report, Progress& progress);
// Merges if that is wanted, removes the packs that no backup refers to, then rewrites those of which little is in use. Throws
// Error::damaged, and removes nothing, where it can't be told what a backup refers to. What can't be rewritten (it is damaged, the target
// is full) stays, with a warning. May be killed at any instant: what is removed was nobody's, and the same call goes on. A restore of a
// backup that was forgotten may fail meanwhile, with an error that says what is gone; others go on.
PruneResult run_prune(Repository& repository, const Lease& lease, const PruneOptions& options, Report& report, Progress& progress);

}  // namespace nodesnap
