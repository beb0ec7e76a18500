// The backend for plain file systems (ext4, XFS without reflink) and stores whose files are mostly never written to again: a tree beside
// the node directory in which those are further names of the node's own files, and the few others are copied. Not atomic: nobody may write
// to the node directory while create() runs. Needs CAP_SYS_ADMIN and CAP_LEASE. See docs/design.md, "Snapshots made of links".
#pragma once

#include <memory>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/backend/tree_place.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// Error::refused if a process has a file of the node directory open for writing, or if that can't be told, unless options.held or
// options.accept_inconsistent.
std::unique_ptr<SnapshotBackend> make_hardlink_backend(TreePlace place, const ExcludeRules& excludes, const BackendOptions& options,
                                                       std::string reason);

}  // namespace nodesnap
