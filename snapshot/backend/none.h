// The backend without snapshots: reads the node directory itself, for a stopped daemon, or in passes of which the last one is read while it
// is held (backup/pre_copy.h).
#pragma once

#include <memory>
#include <string>

#include "snapshot/backend/backend.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// `node_directory` is absolute, without symlinks. Error::refused if a process has a file of it open for writing, or if that can't be told,
// unless options.accept_inconsistent. With options.held that is no matter.
std::unique_ptr<SnapshotBackend> make_none_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                   const BackendOptions& options, std::string reason);

}  // namespace nodesnap
