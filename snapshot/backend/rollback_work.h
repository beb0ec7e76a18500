// The directory that a rollback works in, beside the snapshots, and what becomes of it when the rollback was cut off.
//
//     .rollback.<as the node's snapshots are called>/     locked by who is at work
//         seat        symlink to where the node directory lies, from the top level; of a folder: to nothing
//         snapshot    symlink to the snapshot's given name
//         kept        symlink to the given name of the snapshot that what is replaced becomes
//         directory   btrfs: the clone, and after the exchange what it was exchanged for; of a folder: see TreeRollback
//
// Which of the two `directory` is on btrfs, is told by numbers: a clone has a higher one than the subvolume that it is to replace, since
// that was there before. Errors: nodesnap::Error. One thread.
#pragma once

#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backend/tree_store.h"

namespace nodesnap {

inline constexpr const char* kRollbackContent = "directory";

struct RollbackNote {
    std::string seat, snapshot, kept;
};

// The folder of the snapshots, made if it is missing, as opened through `top_level`.
FileDescriptor open_snapshots_from_top(int top_level, const std::string& node_directory, const std::string& snapshot_directory);
// Whether what lies there, from the top level, is mounted at the mount point, be it under another mount.
bool is_mounted_at(const std::string& mount_point, const std::string& seat);
// Makes and locks it. Error::refused if another process is at work there.
FileDescriptor make_rollback_work(int snapshots, const SnapshotNaming& naming, const std::string& node_directory);
void note_rollback(int work, const RollbackNote& written);
RollbackNote read_rollback_note(int work);  // what is missing is empty

// Durable when they return. `shown` is for messages.
void discard_clone(int work, const std::string& shown);
void keep_replaced(int work, int snapshots, const std::string& on_disk, const std::string& shown);
// Of a folder, which lies in the directory `above`: the exchange of it for what was beside.
void make_exchange_durable(int present, int above, const std::string& shown);
void keep_replaced_tree(TreeStore& store, int work, const std::string& on_disk);
void remove_rollback_work(int snapshots, const SnapshotNaming& naming);  // without what those have taken care of

}  // namespace nodesnap
