// The backend for file systems that clone files (XFS with reflink; plain directories on btrfs): a tree of clones beside the node
// directory. Not atomic: nobody may write to the node directory while create() runs. Needs CAP_SYS_ADMIN.
#pragma once

#include <memory>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/backend/tree_place.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// Error::refused if a process has a file of the node directory open for writing, or if that can't be told, unless options.held or
// options.accept_inconsistent.
std::unique_ptr<SnapshotBackend> make_reflink_backend(TreePlace place, const ExcludeRules& excludes, const BackendOptions& options,
                                                      std::string reason);

}  // namespace nodesnap
