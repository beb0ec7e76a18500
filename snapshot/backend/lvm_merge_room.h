// What merging a classic snapshot into its volume takes of room: whatever it overwrites is copied to each other snapshot of the volume
// first, and one of these keeps the present.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "platform/lvm.h"

namespace nodesnap {

// The most that merging adds to another snapshot, whose chunks are of `chunk_bytes`: their data, and the table of them.
std::uint64_t room_for_copies(const lvm::SnapshotFill& merged, std::uint64_t merged_chunk_bytes, std::uint64_t chunk_bytes,
                              std::uint64_t volume_bytes);
// How full a snapshot is that is to be merged. Error::refused if it isn't whole.
lvm::SnapshotFill fill_of_merged(const lvm::Volume& snapshot);
// Error::refused, with their names, if there are other snapshots of the volume that would overflow, or be close to it. `group`: all its
// volumes.
void refuse_overflows(const lvm::Volume& volume, const lvm::Volume& merged, const std::vector<lvm::Volume>& group);
// The room of the snapshot that keeps the present: what merging needs, and half of what is left, for what is written afterwards.
// Error::refused if the group hasn't that much.
std::uint64_t extents_of_kept(const lvm::Volume& volume, const lvm::Volume& merged);

}  // namespace nodesnap
