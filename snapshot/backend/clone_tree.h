// Clones a directory with all below it: every regular file by reference (FICLONE), all else anew, with owners, modes, times, extended
// attributes and ACLs, and what a clone can't be in its CloneOrigin. Files of several names are cloned once.
//
// One thread walks, several clone. Memory is bounded by the depth of the tree and the length of its names. Nothing is written to the
// source, as far as the kernel lets one read without a trace: the time of access of symlinks may change.
// Needs CAP_SYS_ADMIN. Not atomic: whoever writes meanwhile, to several files one after the other, may be seen out of order.
#pragma once

#include <string>

#include "snapshot/backend/inode_clone.h"
#include "snapshot/exclude.h"

namespace nodesnap {

struct CloneTreeOptions {
    unsigned workers = 0;           // that clone; 0: one per CPU, up to kDefaultWorkers
    bool tolerate_changes = false;  // what goes meanwhile is left out
};

// `source`: descriptor of the directory, whose path is for messages. `destination`: of an empty directory on the same file system, which
// becomes what the source is. `inodes` makes it of what isn't a directory. Nothing is durable when it returns. Throws Error: with the path
// of what can't be cloned, or changed meanwhile.
void clone_tree(int source, const std::string& source_path, int destination, InodeClone& inodes, const ExcludeRules& excludes,
                const CloneTreeOptions& options);

}  // namespace nodesnap
