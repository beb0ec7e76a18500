// What a tree of clones holds alone: what no other file of the file system has any more. By FIEMAP, which asks the file system's own counts
// of references, so that the node, other snapshots and whatever else was cloned count. One thread; as long as there are files.
#pragma once

#include "snapshot/backend/backend.h"

namespace nodesnap {

// `tree`: descriptor of its root. Error where an extent map can't be read. What two files of the tree share counts as shared.
HeldSpace clone_space(int tree);

}  // namespace nodesnap
