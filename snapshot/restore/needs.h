// RestoreNeeds: how much a restore makes, and the space that this takes on the file system that it goes to: blocks are taken whole, and an
// inode with several names takes its space once. Reads the inode records of all that is restored.
#pragma once

#include <cstdint>
#include <string>

#include "platform/file_system.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

struct RestoreNeeds {
    std::uint64_t files = 0;  // inodes, as in the manifest: not their names
    std::uint64_t directories = 0;
    std::uint64_t inodes = 0;  // of any type
    std::uint64_t data_bytes = 0;
    std::uint64_t required_bytes = 0;  // of space: whole blocks, attributes and an estimate of metadata
    std::string incomplete;            // a path of which not all could be read when the backup was made; empty if there is none
};
RestoreNeeds needs_of(const Repository& repository, const Manifest& backup, const RestoreSelection& selection, const FileSystem& target);

}  // namespace nodesnap
