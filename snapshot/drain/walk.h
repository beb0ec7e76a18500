// The walk that a drain needs: of all names, or of what has changed since the parent backup.
#pragma once

#include <cstdint>

#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/source_walk.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// Until the sink was told everything, or is stopped. What has gone since the parent backup is told to the state's catalog.
void walk_source(DrainState& state, std::uint64_t root_ino, const ExcludeRules& excludes, SourceSink& sink);

}  // namespace nodesnap
