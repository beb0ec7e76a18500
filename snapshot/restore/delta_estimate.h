// How much a delta restore would write.
#pragma once

#include <cstdint>

#include "snapshot/repository/repository.h"

namespace nodesnap {

// Into a clone of `before`'s snapshot: told by the two backups' trees.
std::uint64_t bytes_that_differ(const Repository& repository, const Manifest& backup, const Manifest& before);
// Over what a directory holds: all of that is read and compared. `root` is a descriptor of it. Files of several names count for each.
std::uint64_t bytes_that_differ(const Repository& repository, const Manifest& backup, int root);

}  // namespace nodesnap
