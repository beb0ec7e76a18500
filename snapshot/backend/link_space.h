// What a snapshot made of links holds alone: its copies, and the files of which nobody else has a name any more. One thread; as long as
// there are files.
#pragma once

#include "snapshot/backend/backend.h"
#include "snapshot/backend/link_index.h"

namespace nodesnap {

// `tree`: descriptor of its root, `links` its own, `all` those of all snapshots, itself included.
HeldSpace link_space(int tree, const LinkIndex& links, const LinkIndexes& all);

}  // namespace nodesnap
