// The LVM backends: a classic copy-on-write snapshot of the node directory's logical volume, or a thin one of a thin volume; dropped after
// the drain. See docs/design.md, "Snapshots of logical volumes".
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/backend/lvm_snapshot.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// Error::refused, with the remedy, where that can't be had. `wanted`: none takes what suits the volume.
std::unique_ptr<SnapshotBackend> make_lvm_backend(std::optional<LvmKind> wanted, const std::string& node_directory,
                                                  const ExcludeRules& excludes, const BackendOptions& options, std::string reason);
bool remove_left_lvm_snapshot(const std::string& path);                 // as remove_left_snapshot()
std::string remove_lvm_snapshot_elsewhere(const SnapshotProof& proof);  // as remove_snapshot_elsewhere()

}  // namespace nodesnap
