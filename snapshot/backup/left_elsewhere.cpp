#include "snapshot/backup/left_elsewhere.h"

#include <fcntl.h>

#include <optional>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/backend/lvm_snapshot.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backup/parent.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

std::optional<Manifest> good_one_before(const Repository& repository, const SessionId& made) {
    std::optional<Manifest> found;
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        if (entry.manifest && !entry.manifest->damaged && entry.manifest->id != made && repository.made_here(entry)) {
            found = *entry.manifest;
        }
        return !found;
    });
    return found;
}

bool holds_something(const std::string& directory) {
    try {
        DirectoryStream stream(open_path(directory, O_RDONLY | O_DIRECTORY), directory);
        DirectoryEntry entry;
        return stream.next(entry);
    } catch (const Error&) {
        return false;
    }
}

bool has_moved(const Manifest& before, const Repository& repository, const SnapshotBackend& backend) {
    if (backend.name() == "none") {
        return !(before.node == repository.info().node);
    }
    return before.proof.backend != backend.name() || before.proof.path != backend.path_of(snapshot_name(repository, before.id));
}

std::string why_it_stays(const Manifest& before, const NodeIdentity& now) {
    // A node that was copied goes on where it was, and may be backed up there too, into another copy of the repository.
    if (before.node.path != now.path && holds_something(before.node.path)) {
        return "the node directory " + before.node.path + " is still there";
    }
    try {
        return remove_snapshot_elsewhere(before.proof);
    } catch (const Error& error) {
        return error.message();
    }
}

}  // namespace

void remove_parent_elsewhere(const Repository& repository, SnapshotBackend& backend, const SessionId& made, Report& report) {
    const auto before = good_one_before(repository, made);
    if (!before || before->proof.path.empty() ||
        !is_temporary_snapshot_name(before->proof.path.substr(before->proof.path.rfind('/') + 1)) ||
        !has_moved(*before, repository, backend)) {
        return;
    }
    const std::string why = why_it_stays(*before, repository.info().node);
    if (!why.empty()) {
        const std::string& path = before->proof.path;
        const bool in_group = path.starts_with(kVolumeScheme);
        const bool in_top_level = !in_group && !path.starts_with('/');
        const std::string removes = in_group ? "lvremove" : before->proof.backend == "btrfs" ? "btrfs subvolume delete" : "rm -r";
        report.warn("the snapshot that backup " + before->id.hex() + " has left at " + path + " on host " + before->host_name +
                    " stays, and holds space, since " + why + ": no later backup looks there; " +
                    (in_top_level ? "mount that file system's top level (subvolid=5) and remove it with `btrfs subvolume delete`"
                                  : "remove it with `" + removes + " " +
                                        shell_word(in_group ? path.substr(std::string(kVolumeScheme).size()) : path) + "`"));
    }
}

}  // namespace nodesnap
