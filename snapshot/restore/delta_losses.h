// What a delta restore would not get from the repository, told by reading what it would read. For a dry run.
#pragma once

#include "snapshot/repository/repository.h"
#include "snapshot/restore/delta_estimate.h"
#include "snapshot/restore/lost.h"

namespace nodesnap {

// For the functions of delta_estimate.h. `lost` is told; where nothing lost is accepted, the first that is is an error, as it is for the
// restore. `snapshot_root`: of the local snapshot that is begun with, or -1. All must outlive what is returned. Memory: 2 MiB.
NeededData losses_of_delta(const Repository& repository, RestoreLost& lost, int snapshot_root);

}  // namespace nodesnap
