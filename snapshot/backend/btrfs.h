// The backend for btrfs: read-only snapshots of the subvolume that holds the node directory. Needs CAP_SYS_ADMIN.
#pragma once

#include <memory>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// `node_directory` is absolute, without symlinks, and on btrfs.
std::unique_ptr<SnapshotBackend> make_btrfs_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                    const BackendOptions& options, std::string reason);
// As remove_left_snapshot().
bool remove_left_btrfs_snapshot(const std::string& path);
// As remove_snapshot_elsewhere().
std::string remove_btrfs_snapshot_elsewhere(const SnapshotProof& proof);

}  // namespace nodesnap
