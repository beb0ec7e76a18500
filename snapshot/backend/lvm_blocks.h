// What two thin volumes of one pool have in common, as the pool's metadata tell. Internal to the LVM backend.
#pragma once

#include <cstdint>
#include <memory>

#include "platform/lvm.h"
#include "snapshot/backend/same_blocks.h"

namespace nodesnap {

// `earlier` is a snapshot of ours, which bears the mark of the reserved metadata meanwhile; neither is being written to (of one that is,
// what was written before this is called is told). Error::failed if it can't be told.
std::shared_ptr<const SameBlocks> common_blocks(const lvm::Volume& pool, const lvm::Volume& earlier, const lvm::Volume& now);
// What a snapshot of ours holds that its volume doesn't; other snapshots may hold it, too. As above.
std::uint64_t bytes_beside(const lvm::Volume& pool, const lvm::Volume& snapshot, const lvm::Volume& origin);

}  // namespace nodesnap
