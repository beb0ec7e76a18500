// The names of what is lost, where files were restored under numbers (basis.h).
#pragma once

#include "snapshot/repository/repository.h"
#include "snapshot/restore/lost.h"

namespace nodesnap {

// One of the inode's paths in the backup takes the place of each path in `lost` that is such a number (basis.h); others stay. Goes through
// the tree, if there are any, up to the last of them.
void name_lost_inodes(const Repository& repository, const Manifest& backup, RestoreLost& lost);

}  // namespace nodesnap
