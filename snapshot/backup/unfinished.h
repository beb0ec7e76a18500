// The backup of the same node directory that was cut off, and that the next one goes on with. See docs/design.md, "Going on after an
// interruption".
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/backup.h"
#include "snapshot/backup/parent.h"
#include "snapshot/exclude.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct UnfinishedBackup {
    std::optional<Manifest> draft;  // none: there is nothing to go on with
    std::string refused;            // why not, where there was something
    SessionRecord session;          // with the mode to go on in
    std::unique_ptr<Snapshot> snapshot;
    BackupParent parent;  // what it builds on
};

// Of those that began before `lease` was taken. Changes nothing.
UnfinishedBackup find_unfinished(const Repository& repository, const Lease& lease, SnapshotBackend& backend, const ExcludeRules& excludes,
                                 const BackupOptions& options);
// After clearing up has noted of that session that nobody works on it: becomes what is stored of it, but for its mode. False if that can't
// be found.
bool take_over_unfinished(const Repository& repository, SessionRecord& session);

}  // namespace nodesnap
