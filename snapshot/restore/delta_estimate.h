// How much a delta restore would write, and to how many files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/repository/repository.h"

namespace nodesnap {

// Of regular files. `created` and `removed` are names that are held by one side only (or lead to something else there), `changed` files
// that both have, with other contents.
struct DeltaDifference {
    std::uint64_t bytes = 0;  // to write
    std::uint64_t created = 0, changed = 0, removed = 0;
};

// Into a clone of `before`'s snapshot: told by the two backups' trees.
DeltaDifference difference(const Repository& repository, const Manifest& backup, const Manifest& before);
// Over what a directory holds: all of that is read and compared. `root` is a descriptor of it. Files of several names count for each. Bytes
// and changed files only.
DeltaDifference content_difference(const Repository& repository, const Manifest& backup, int root);
// The same of the root's files of these names alone.
DeltaDifference content_difference(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& names);
// The rest of it, told by listing the directories. Entries of the root that are called as one of `keep` don't count. Memory: the names of
// the directories beside those that lead down to where it looks, below what doesn't belong.
DeltaDifference name_difference(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& keep);

}  // namespace nodesnap
