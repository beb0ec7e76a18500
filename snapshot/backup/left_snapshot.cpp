#include "snapshot/backup/left_snapshot.h"

#include <string>

#include "platform/error.h"
#include "snapshot/backup/parent.h"

namespace nodesnap {

SnapshotRemains remove_snapshot_left_by(const SessionRecord& left, const Repository& repository, SnapshotBackend& backend, Report& report) {
    // The record may lack the path: the backup can have died between the snapshot and the note of it. Its name is the session's; a path
    // that ends otherwise is of somebody who wants another one removed.
    const std::string name = snapshot_name(repository, left.id);
    const bool noted = left.snapshot_backend == "none" || left.snapshot_path.ends_with("." + name + ".tmp");
    const std::string shown = noted ? "the snapshot " + left.snapshot_path : "a snapshot named \"" + name + "\"";
    try {
        const bool reached =
            noted ? remove_left_snapshot(left.snapshot_backend, left.snapshot_path) : backend.name() == left.snapshot_backend;
        backend.remove_temporary(name);
        if (reached) {
            return SnapshotRemains::kNone;
        }
        report.warn(shown + ", which an unfinished backup may have left, is out of reach: mount its file system and run the next " +
                    "backup of the same directory" + (noted ? "" : " with --snapshot " + left.snapshot_backend) + " to remove it");
        return SnapshotRemains::kOutOfReach;
    } catch (const Error& error) {
        report.warn(shown + ", which an unfinished backup left, stays until the next backup tries again: " + error.message());
        return SnapshotRemains::kStuck;
    }
}

}  // namespace nodesnap
