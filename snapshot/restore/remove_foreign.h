// What a directory holds that the backup doesn't, or that is of another type there, is removed.
#pragma once

#include <string>
#include <vector>

#include "snapshot/restore/context.h"

namespace nodesnap {

// Below `root`, a descriptor of the node directory; but for entries of the root with the names in `keep` that the backup doesn't hold.
// Takes flags off directories that forbid to change what is in them. Calls `changed` with each directory from which something was removed.
using DirectoryChanged = std::function<void(int fd, std::uint64_t ino, const PathSource& path)>;
void remove_foreign(RestoreContext& context, int root, const std::vector<std::string>& keep, const DirectoryChanged& changed = {});

}  // namespace nodesnap
