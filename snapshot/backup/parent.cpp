#include "snapshot/backup/parent.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <vector>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {

std::string snapshot_suffix(const Repository& repository) {
    constexpr std::size_t kDigits = 8;
    return "-" + repository.info().uuid.text().substr(0, kDigits);
}

std::string snapshot_name(const Repository& repository, const SessionId& session) {
    return session.hex() + snapshot_suffix(repository);
}

void BackupParent::compare_blocks(SnapshotBackend& backend, const Snapshot* now) {
    if (!changed_since) {
        return;
    }
    try {
        blocks = backend.compare_blocks(*snapshot, now);
    } catch (const Error& error) {
        throw_if_interrupted();
        compare_only(error.message());
    }
}

DrainParent BackupParent::comparison(const Snapshot& now, std::span<const PackId> distrusted) const {
    DrainParent parent{*compared, -1, distrusted, same_file_system};
    parent.records_tell = records_tell && now.clones() != nullptr && now.clones()->is_nameless() && same_file_system &&
                          distrusted.empty() && compared->consistency == Consistency::kPointInTime;
    return parent;
}

namespace {

std::string last_part(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

// A backup into a copy of the repository goes on from the same snapshot, and drops it for its own.
bool is_of_a_copy(const SnapshotEntry& entry, const Repository& repository, const std::set<std::string>& names) {
    const std::vector<SessionRecord> sessions = repository.sessions();
    return entry.temporary && entry.name.ends_with(snapshot_suffix(repository)) && !names.contains(entry.name) &&
           std::none_of(sessions.begin(), sessions.end(),
                        [&](const SessionRecord& session) { return snapshot_name(repository, session.id) == entry.name; });
}

// `names`: of the snapshots of all backups that can be read.
std::string why_not_since(const Manifest& last, const Repository& repository, SnapshotBackend& backend,
                          const std::set<std::string>& names) {
    if (std::string why = backend.why_no_changes(); !why.empty()) {
        return why;
    }
    if (last.proof.file_system_uuid != backend.file_system_uuid()) {
        return "the last backup was of another file system";
    }
    if (last.proof.backend == "none") {
        return "the last backup was made without a snapshot";
    }
    if (last.proof.backend != backend.name()) {
        return "the last backup's snapshot is of another kind (" + last.proof.backend + ")";
    }
    if (last.proof.path.empty()) {
        return "the last backup kept no snapshot (--drop-snapshot), or there was no room for one";
    }
    const std::string name = snapshot_name(repository, last.id);
    const std::string flaw = backend.flaw_of(name, last.proof);
    if (!flaw.empty()) {
        return "the last backup's snapshot " + flaw;
    }
    const std::string path = backend.path_of(name);
    if (last.proof.path != path && last.proof.path != without_temporary(path)) {
        // Snapshots are named after the node directory's path.
        const bool same_node = without_temporary(last_part(last.proof.path)) == without_temporary(last_part(path));
        return same_node ? "the last backup's snapshot is in another directory (" + last.proof.path + "), see --snapshot-dir"
                         : "the node directory has moved since the last backup, whose snapshot stayed behind";
    }
    const std::vector<SnapshotEntry> entries = backend.list();
    if (std::any_of(entries.begin(), entries.end(), [&](const SnapshotEntry& entry) { return is_of_a_copy(entry, repository, names); })) {
        return "the last backup's snapshot is gone: a backup into a copy of this repository has dropped it";
    }
    return "the last backup's snapshot is gone: dropped by nodesnap snapshot trim, or removed";
}

}  // namespace

void drop_older_parents(const Repository& repository, SnapshotBackend& backend, const SessionId& made) {
    for (const SnapshotEntry& entry : backend.list()) {
        if (entry.temporary && entry.name.ends_with(snapshot_suffix(repository)) && entry.name != snapshot_name(repository, made)) {
            backend.drop(entry);
        }
    }
}

BackupParent no_parent() {
    BackupParent none;
    none.missing = "--full was given";
    return none;
}

BackupParent find_parent(const Repository& repository, SnapshotBackend& backend, const std::optional<SessionId>& only, const Snapshot* of) {
    BackupParent parent;
    const std::string file_system = backend.file_system_uuid();
    bool replaced = false;
    std::set<std::string> names;  // of the backups' snapshots
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        if (entry.manifest) {
            names.insert(snapshot_name(repository, entry.manifest->id));
        }
        if (!entry.manifest || entry.manifest->damaged || (only && entry.manifest->id != *only)) {
            return true;
        }
        if (!repository.made_here(entry)) {
            parent.unknown_ones = true;
            return true;
        }
        if (!parent.compared) {
            parent.compared = *entry.manifest;
            parent.same_file_system = entry.manifest->proof.file_system_uuid == file_system;
        }
        if (!backend.tells_changes()) {
            return !parent.compared;
        }
        if (entry.manifest->proof.path.empty()) {
            return true;
        }
        auto snapshot = backend.find(snapshot_name(repository, entry.manifest->id), entry.manifest->proof);
        if (!snapshot || snapshot->root_ino() != entry.manifest->root_ino) {
            return true;
        }
        const Descent descent = backend.descent(*snapshot, of);
        if (!descent.known) {
            replaced = true;
            return true;
        }
        parent.forked_at = descent.forked_at;
        parent.changed_since = *entry.manifest;
        parent.snapshot = std::move(snapshot);
        return false;
    });
    if (parent.changed_since) {
        return parent;
    }
    if (replaced) {
        parent.missing = "the node directory was replaced since the last backup (by a rollback, or a restore?)";
    } else if (parent.compared) {
        parent.missing = why_not_since(*parent.compared, repository, backend, names);
    } else if (parent.unknown_ones) {
        parent.missing = "this host doesn't remember having made any of the backups that are there";
    } else {
        parent.missing = names.empty() ? "it is the first backup" : "no earlier backup is complete";
    }
    return parent;
}

}  // namespace nodesnap
