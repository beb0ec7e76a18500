// PackStock: which of the packs that a repository should have are there, and as long as they were written. From a listing, the inventory
// and the manifests that are newer than that: nothing is read of the packs themselves. Memory: 32 bytes for each pack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "snapshot/repository/inventory.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct PackStock {
    std::vector<InventoryEntry> present;  // in ascending order; the highest generation of each
    std::vector<InventoryEntry> lost;     // in ascending order, as they should be: missing, or of another length
    std::uint64_t stored_bytes = 0;       // of all that is present, earlier generations too
    std::uint64_t last_sequence = 0;      // of the backups
    std::size_t backups_not_inventoried = 0;
    // What is missing may not all be known: there is no inventory that can be used, or of the backups after it one has gone, or can't be
    // read.
    bool complete = true;

    const InventoryEntry* find(const PackId& pack) const;  // among those present
};
// Packs that nobody needs any more, and that another than prune removed, are lost too.
PackStock take_stock(const Repository& repository);

// Adds to `lost` what the backup's tree refers to and isn't there, by going through all of it; then the stock is complete for who builds on
// that backup. Leaves it as it is where the tree can't be read.
void complete_stock(const Repository& repository, const Manifest& backup, PackStock& stock);

// Makes it the inventory, for backups up to `last_sequence`. What can't be written is no error: then more manifests are read next time.
void store_inventory(const Repository& repository, const Lease& lease, const PackStock& stock);

// How long each of these packs is, which were just written: the last look at them before a manifest lists them. Error::failed if one has
// gone.
std::vector<std::uint64_t> sizes_of(const Repository& repository, std::span<const PackId> packs);

}  // namespace nodesnap
