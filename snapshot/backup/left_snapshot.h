// The snapshot that an unfinished backup has left on this host.
#pragma once

#include "snapshot/backend/backend.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// What can't be removed is told, and is no reason to do without a new backup.
SnapshotRemains remove_snapshot_left_by(const SessionRecord& left, const Repository& repository, SnapshotBackend& backend, Report& report);

}  // namespace nodesnap
