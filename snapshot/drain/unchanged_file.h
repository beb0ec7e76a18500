// Files that are taken over whole from the parent backup, since nobody has changed them meanwhile: by a pass over a live directory from the
// one before, and of a snapshot made of links from the one before. See docs/design.md, "Reading a directory in passes" and "Snapshots made
// of links".
#pragma once

#include <cstdint>

#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/source_directory.h"

namespace nodesnap {

// True if the entry, which is called a regular file, is provably what the parent's stamp says was read: then its record, with attributes
// and content, is in the state's catalog (or another of its names has brought it there). Costs a statx and a look-up in the parent's tree.
// Any thread. Throws Error::damaged where that tree is.
bool take_over_unchanged(DrainState& state, const SourceDirectory& directory, const SourceEntry& entry);

// The same of a link in a snapshot, which is the same in the parent's.
bool take_over_link(DrainState& state, const SourceDirectory& directory, const SourceEntry& entry);
// Whether a snapshot of the live directory would have the open file so.
bool will_be_taken_over(const DrainState& state, int file, std::uint64_t ino);

}  // namespace nodesnap
