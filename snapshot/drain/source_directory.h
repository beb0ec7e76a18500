// A directory of the source, and what is to be read in it. Shared between the walk that finds it and the workers that drain its entries.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/directory_place.h"

namespace nodesnap {

// Open while entries of it are to be drained; without a descriptor, they are opened by their inode numbers.
struct SourceDirectory {
    FileDescriptor fd;
    std::uint64_t ino = 0;
    DirectoryPlace place;                      // below the node directory
    std::optional<std::uint64_t> counterpart;  // its number in the backup that contents are compared with, if that has it
};

struct SourceEntry {
    std::string name;  // "" stands for the directory itself, when all its entries were listed (or couldn't be)
    std::uint64_t ino = 0;
    std::uint8_t d_type = 0;
    bool incomplete = false;       // a directory that couldn't be listed to its end
    std::uint64_t generation = 0;  // of one that is to be opened by its number
};

struct Batch {
    std::shared_ptr<SourceDirectory> directory;
    std::vector<SourceEntry> entries;
};

}  // namespace nodesnap
