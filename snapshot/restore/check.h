// What earlier runs of a restore have recorded as finished is looked at before it is trusted: each file by type, size and modification
// time, which are set when its content is complete. Nothing is read of the files themselves.
#pragma once

#include "snapshot/restore/context.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

// Takes out of `state` what isn't there any more as it was left: batches from the first one that isn't whole on, and large files.
void check_left(RestoreContext& context, const RestoreSelection& selection, int root, RestoreState& state);
// Error::failed, naming it, if something of the selection isn't below `root` as it was put there.
void check_placed(RestoreContext& context, const RestoreSelection& selection, int root, const RestoreState& state,
                  const std::string& remedy);

}  // namespace nodesnap
