// What a pass over a live directory takes over from the one before, since nobody has changed it meanwhile. See docs/design.md, "Reading a
// directory in passes".
#pragma once

#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/source_directory.h"

namespace nodesnap {

// True if the entry, which is called a regular file, is provably what the parent's stamp says was read: then its record, with attributes
// and content, is in the state's catalog (or another of its names has brought it there). Costs a statx and a look-up in the parent's tree.
// Any thread. Throws Error::damaged where that tree is.
bool take_over_unchanged(DrainState& state, const SourceDirectory& directory, const SourceEntry& entry);

}  // namespace nodesnap
