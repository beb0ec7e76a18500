// The backup that the next one builds on.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/drain/drain.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// A node can have several repositories: each has its own parent among the node's snapshots.
std::string snapshot_suffix(const Repository& repository);
std::string snapshot_name(const Repository& repository, const SessionId& session);

struct BackupParent {
    std::optional<Manifest> changed_since;     // whose snapshot tells what has changed
    std::unique_ptr<Snapshot> snapshot;        // that one
    std::shared_ptr<const SameBlocks> blocks;  // of it and what is backed up
    std::uint64_t forked_at = 0;               // Descent: of it and the node directory
    std::optional<Manifest> compared;          // without one: whose contents are compared
    bool same_file_system = false;             // as that backup's
    bool records_tell = true;                  // DrainParent's, where they can
    std::string missing;                       // why there is no changed_since
    bool unknown_ones = false;                 // there are backups that this host doesn't remember having made

    // Not without `changed_since`: whether it tells what has changed in the node directory of this number. Where all is walked, every file
    // proves itself, be the directory another one by now, as after a rollback of a folder.
    bool tells_of(std::uint64_t root_ino) const { return snapshot->clones() != nullptr || root_ino == changed_since->root_ino; }
    // The change list is not to be used, nor is anything else but the contents.
    void compare_only(const std::string& why) {
        changed_since.reset();
        records_tell = false;
        missing = why;
    }
    // Asks the storage what it has in common with `now` (SnapshotBackend::compare_blocks()). Where that can't be told contents are
    // compared.
    void compare_blocks(SnapshotBackend& backend, const Snapshot* now);
    // Not without `changed_since`, which must outlive it, as `snapshot` must.
    DrainParent changes() const {
        const SnapshotFiles* const files = snapshot->files();
        return {*changed_since, files != nullptr ? -1 : snapshot->root(), {}, true, forked_at, files, blocks.get()};
    }
    // Not without `compared`. Both must outlive it. `now`: what is backed up.
    DrainParent comparison(const Snapshot& now, std::span<const PackId> distrusted) const;
    const std::optional<Manifest>& best() const { return changed_since ? changed_since : compared; }
};
// The snapshots of this repository's backups but that of `made`. One in use stays for the next backup to drop: a backup into a copy of this
// repository reads from it, or one that was taken over still has it open.
void drop_older_parents(const Repository& repository, SnapshotBackend& backend, const SessionId& made);
// Of a backup that the operator wants to build on nothing.
BackupParent no_parent();
// The newest backup whose snapshot is there and proves itself, and the newest of all to compare with; or the one that is named, with its
// snapshot or without. Not one that is incomplete. Of the node directory, or of what `of`, a snapshot of it, shows.
BackupParent find_parent(const Repository& repository, SnapshotBackend& backend, const std::optional<SessionId>& only = {},
                         const Snapshot* of = nullptr);

}  // namespace nodesnap
