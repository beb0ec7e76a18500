// What is done to a restored tree when all its files are complete: attributes of directories, those below before those above, and at the
// very end the flags that would forbid any further change.
#pragma once

#include "snapshot/restore/context.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

// Gives all directories below `root` (a descriptor), and then itself, their attributes. Notes in context.sealed whether there are any to
// seal.
void finish_directories(RestoreContext& context, const RestoreSelection& selection, int root);
// Only those of `root`, whose times change when entries are moved into it.
void finish_root(RestoreContext& context, int root);
// Makes append-only and immutable what is to be; below the root, and the root itself.
void seal_tree(RestoreContext& context, const RestoreSelection& selection, int root);
void seal_root(RestoreContext& context, int root);

}  // namespace nodesnap
