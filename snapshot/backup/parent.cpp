#include "snapshot/backup/parent.h"

#include <cstddef>

#include "platform/file.h"

namespace nodesnap {

std::string snapshot_suffix(const Repository& repository) {
    constexpr std::size_t kDigits = 8;
    return "-" + repository.info().uuid.text().substr(0, kDigits);
}

std::string snapshot_name(const Repository& repository, const SessionId& session) {
    return session.hex() + snapshot_suffix(repository);
}

BackupParent no_parent() {
    BackupParent none;
    none.missing = "--full was given";
    return none;
}

BackupParent find_parent(const Repository& repository, SnapshotBackend& backend, const std::optional<SessionId>& only) {
    BackupParent parent;
    const std::string file_system = backend.file_system_uuid();
    bool any = false;
    bool replaced = false;
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        any = true;
        if (!entry.manifest || entry.manifest->damaged || (only && entry.manifest->id != *only)) {
            return true;
        }
        if (!parent.compared) {
            parent.compared = *entry.manifest;
            parent.same_file_system = entry.manifest->proof.file_system_uuid == file_system;
        }
        if (backend.name() == "none") {
            return !parent.compared;
        }
        if (entry.manifest->proof.path.empty()) {
            return true;
        }
        auto snapshot = backend.find(snapshot_name(repository, entry.manifest->id), entry.manifest->proof);
        if (!snapshot || stat_fd(snapshot->root()).stx_ino != entry.manifest->root_ino) {
            return true;
        }
        if (!backend.precedes(*snapshot)) {
            replaced = true;
            return true;
        }
        parent.changed_since = *entry.manifest;
        parent.snapshot = std::move(snapshot);
        return false;
    });
    if (parent.changed_since) {
        return parent;
    }
    if (!any) {
        parent.missing = "it is the first backup";
    } else if (replaced) {
        parent.missing = "the node directory was replaced since the last backup (by a rollback, or a restore?)";
    } else if (parent.compared && !parent.same_file_system) {
        parent.missing = "the node directory was on another file system at the last backup";
    } else if (backend.name() == "none") {
        parent.missing = "there are no snapshots to tell what has changed";
    } else {
        parent.missing = "no earlier backup's snapshot is there to tell what has changed (removed, or dropped by nodesnap snapshot trim?)";
    }
    return parent;
}

}  // namespace nodesnap
