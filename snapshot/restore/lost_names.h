// The names of what is lost, where files were restored under numbers (basis.h).
#pragma once

#include "snapshot/repository/repository.h"
#include "snapshot/restore/lost.h"

namespace nodesnap {

// Every path in `lost` must be such a number; one of the inode's paths in the backup takes its place. Goes through the tree, if anything is
// lost, up to the last of them.
void name_lost_inodes(const Repository& repository, const Manifest& backup, RestoreLost& lost);

}  // namespace nodesnap
