// Merge: writes the fragmented parts of the newest backup's files anew, in large segments, and publishes that as the backup's next
// revision: the same contents, of other segments. See docs/design.md, "Forgetting".
//
// It works as a backup does: a session object names what it will publish, all packs are durable before the manifest is, and who clears up
// after it when it dies makes a mark of that manifest's name first, so that it can't publish any more when it was only asleep.
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "io/progress.h"
#include "io/throttle.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

enum class MergeWhen {
    kNever,
    kAffordable,  // where a small part of the target's free space is enough
    kAlways,      // where the target has the space
};

struct MergeResult {
    std::uint64_t files = 0;       // with fragmented parts
    std::uint64_t bytes = 0;       // in them
    std::uint64_t left_bytes = 0;  // not merged, since it would take too much of the free space
    // With left_bytes: what the target had free then, and what merging takes.
    std::uint64_t free_bytes = 0, needed_bytes = 0;
    std::uint64_t runs_before = 0, runs_after = 0;
    // As it was before; who reads it may still do so.
    std::optional<Manifest> superseded;
};

// What run_merge() would write anew, were the backups `without` forgotten.
MergeResult plan_merge(const Repository& repository, MergeWhen when, Progress& progress, const std::set<SessionId>& without = {});
// Nothing where nothing is fragmented, or the backup's manifest has to be repaired first. What can't be read is left as it is, with a
// warning. So is everything where the target hasn't enough space, and while a backup that was cut off builds on it; without a warning if
// it was only to be merged where that is affordable. Dead sessions must have been cleared up.
MergeResult run_merge(Repository& repository, const Lease& lease, MergeWhen when, const std::string& scratch_directory, Throttle& throttle,
                      Report& report, Progress& progress);

}  // namespace nodesnap
