// SnapshotFiles: the regular files of a snapshot, by number and generation of the node's inodes that they show.
//
// Thread-safe, in constant memory. Opening needs CAP_DAC_READ_SEARCH.
#pragma once

#include <cstdint>
#include <optional>

#include "platform/file_descriptor.h"
#include "snapshot/backend/link_index.h"

namespace nodesnap {

class SnapshotFiles {
public:
    virtual ~SnapshotFiles() = default;
    // Read-only. Empty if the snapshot has no such file, or if that isn't what it was when the snapshot was made.
    virtual FileDescriptor open(std::uint64_t ino, std::uint64_t generation) const = 0;
    // What lies at the same place in two snapshots is the same: what is overwritten gets another place. If not, SameBlocks must tell.
    virtual bool place_proves() const { return true; }
    // Some are further names of the node's own files: these lie where they lay, whatever was written to them.
    virtual bool has_links() const { return false; }
    // None of what is no link.
    virtual std::optional<LinkRecord> link(std::uint64_t /*ino*/) const { return std::nullopt; }
};

}  // namespace nodesnap
