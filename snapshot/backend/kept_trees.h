// KeptTrees: what a folder on btrfs was before it was rolled back, among the snapshots that are subvolumes: directories as a TreeStore has
// them. Errors are nodesnap::Error. One thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "snapshot/backend/backend.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backend/tree_store.h"

namespace nodesnap {

class KeptTrees {
public:
    // Both must outlive this.
    KeptTrees(const BtrfsPlace& place, const SnapshotNaming& naming) : place_(place), naming_(naming) {}

    void clear_up() const;  // what a removal that was cut off has left; who may not do that is told nothing
    void add_to(std::vector<SnapshotEntry>& entries) const;
    bool remove(const std::string& name) const;                          // false if there is none; Error::refused if it is in use
    std::optional<HeldSpace> held_space(const std::string& name) const;  // nullopt if there is none

private:
    std::optional<TreeStore> store() const;

    const BtrfsPlace& place_;
    const SnapshotNaming& naming_;
};

}  // namespace nodesnap
