// The last backup's snapshot where the node directory, or the place of its snapshots, has moved since: nothing looks there any more, and it
// would hold its space for ever.
#pragma once

#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// After backup `made`, whose snapshot takes its place: removes the snapshot that the newest good backup before it has left in another place
// than `backend` looks in. What can't be removed is told, with where it lies and the remedy; once, since the next backup follows this one.
void remove_parent_elsewhere(const Repository& repository, SnapshotBackend& backend, const SessionId& made, Report& report);

}  // namespace nodesnap
