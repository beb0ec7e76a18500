// Data that the parent backup holds already, under another file or in another place: copies by reference (cp --reflink, deduplication) on
// btrfs. See docs/design.md, "Incremental backups".
//
// An extent that a file has come to refer to since the parent's snapshot, and that is older than that one, belonged to some file of the
// snapshot then, unless that has changed before. btrfs tells which (platform/btrfs_references.h); where that file's extent item in the
// snapshot is of the same extent, and the parent backup has runs of it, these runs are the data, and it isn't read. What can't be found out
// is read.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/large_file.h"

namespace nodesnap {

// In an Extent's flags: of extents that are older than the parent's snapshot.
inline constexpr std::uint32_t kOlderExtent = 1U << 30;

// The extents without what the parent backup holds: that is added to the state's catalog meanwhile. They come without that flag. `size`
// is the file's. The state's parent tells changes.
LargeFile::NextExtent not_shared(DrainState& state, std::uint64_t ino, std::uint64_t size, LargeFile::NextExtent extents,
                                 const std::string& path);

// The same of a small file, all or nothing: whether `inode` has got runs from the parent backup, of itself or of another file.
bool share_small(const DrainState& state, std::uint64_t ino, Inode& inode, const std::string& path);

}  // namespace nodesnap
