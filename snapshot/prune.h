// Prune: gives back the space of what no backup refers to any more. See docs/design.md, "Removing what nobody needs".
#pragma once

#include <cstdint>

#include "io/progress.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct PruneResult {
    std::uint64_t backups = 0;
    std::uint64_t kept_packs = 0, kept_bytes = 0;
    std::uint64_t removed_packs = 0, removed_bytes = 0;  // or to be removed
    std::uint64_t unfinished_packs = 0;                  // of backups that aren't finished, or whose end can't be told: they stay
    std::uint64_t cleared_sessions = 0;
};

// What run_prune() would do. Needs no lease; a backup that runs meanwhile is left out of account.
PruneResult plan_prune(const Repository& repository, Progress& progress);
// Removes the packs that no backup refers to. Throws Error::damaged, and removes nothing, where it can't be told what a backup refers to.
// May be killed at any instant: what is removed was nobody's, and the same call goes on. A restore of a backup that was forgotten may fail
// meanwhile, with an error that says what is gone.
PruneResult run_prune(Repository& repository, const Lease& lease, Progress& progress);

}  // namespace nodesnap
