// What is done to a restored tree when all its files are complete: attributes of directories, those below before those above, and at the
// very end the flags that would forbid any further change.
#pragma once

#include <string>

#include "snapshot/restore/context.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

// Gives all directories below `root` (a descriptor), and then itself, their attributes. Notes in context.sealed whether there are any to
// seal.
void finish_directories(RestoreContext& context, const RestoreSelection& selection, int root);
// Only those of `root`: before entries are moved into it, and afterwards again, since that changes its times.
void finish_root(RestoreContext& context, int root);
// So that entries can be moved into it although its mode doesn't let this user; finish_root() sets the mode again.
void open_root(int root, const std::string& path);
// Makes append-only and immutable what is to be, durably; below the root, and the root itself.
void seal_tree(RestoreContext& context, const RestoreSelection& selection, int root);
void seal_root(RestoreContext& context, int root);

}  // namespace nodesnap
