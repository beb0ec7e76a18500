// How much a delta restore would write, and to how many files.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "snapshot/repository/repository.h"
#include "snapshot/restore/parts.h"

namespace nodesnap {

// Of regular files. `created` and `removed` are names that are held by one side only (or lead to something else there), `changed` files
// that both have, with other contents.
struct DeltaDifference {
    std::uint64_t bytes = 0;  // to write
    std::uint64_t created = 0, changed = 0, removed = 0;
};

// Told of each range of data that is to be written, and of the file that has the place at present (-1: there is none).
using NeededData = std::function<void(const Inode& inode, const std::string& path, int present, std::uint64_t begin, std::uint64_t length)>;
// What of one file is told of. Refers to both.
DataPart part_of_file(const NeededData& needed, const Inode& inode, const std::string& path, int present);

// Into a clone of `before`'s snapshot: told by the two backups' trees. Paths are numbers, as a restore has them (basis.h).
DeltaDifference difference(const Repository& repository, const Manifest& backup, const Manifest& before, const NeededData& needed = {});
// What content_difference() (content_difference.h) doesn't tell of a directory, told by listing it. Entries of the root that are called as
// one of `keep` don't count. `removed` is told of each file's name that goes. Memory: the names of the directories beside those that lead
// down to where it looks, below what doesn't belong.
using FoundFile = std::function<void(int directory, const std::string& name)>;
DeltaDifference name_difference(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& keep,
                                const FoundFile& removed = {});

}  // namespace nodesnap
