#include "snapshot/repository/pack_stock.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/revisions.h"
#include "snapshot/repository/use_marks.h"

namespace nodesnap {
namespace {

bool before(const InventoryEntry& entry, const PackId& pack) {
    return entry.pack < pack;
}

// Sorts them; of several with one id the first counts.
void sort_by_pack(std::vector<InventoryEntry>& entries) {
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.pack < b.pack; });
    const auto same = [](const auto& a, const auto& b) { return a.pack == b.pack; };
    entries.erase(std::unique(entries.begin(), entries.end(), same), entries.end());
}

void list_packs(Target& target, PackStock& stock) {
    std::vector<InventoryEntry>& present = stock.present;
    for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
        target.list(folder, [&](const ObjectEntry& entry) {
            if (const auto name = layout::parse_pack(entry.name)) {
                present.push_back({name->id, entry.size, name->generation});
                stock.stored_bytes += entry.size;
            }
        });
    }
    std::sort(present.begin(), present.end(), [](const auto& a, const auto& b) { return a.generation > b.generation; });
    sort_by_pack(present);
}

// What a compaction or a repair wrote anew has a length of its own.
bool is_as_it_should_be(const InventoryEntry* present, const InventoryEntry& wanted) {
    return present != nullptr && (wanted.bytes == 0 || present->generation != wanted.generation || present->bytes == wanted.bytes);
}

// Whether each number after the inventory's is a backup's, or the mark of an abandoned one's. One that was never used is taken for one that
// has gone: then there is only more to be looked at.
bool without_gaps(Target& target, std::uint64_t inventoried) {
    std::uint64_t next = inventoried + 1;
    bool whole = true;
    for_each_manifest_names(target, [&](std::span<const layout::ManifestName> names) {
        const std::uint64_t sequence = names.front().sequence;
        whole &= sequence <= next;
        next = std::max(next, sequence + 1);
    });
    return whole;
}

}  // namespace

const InventoryEntry* PackStock::find(const PackId& pack) const {
    const auto found = std::lower_bound(present.begin(), present.end(), pack, before);
    return found != present.end() && found->pack == pack ? &*found : nullptr;
}

PackStock take_stock(const Repository& repository) {
    StoredInventory stored = load_inventory(repository.target(), repository.info().uuid);
    const std::uint64_t inventoried = stored.inventory ? stored.inventory->sequence : 0;
    std::vector<InventoryEntry> wanted = stored.inventory ? std::move(stored.inventory->packs) : std::vector<InventoryEntry>();
    PackStock stock;
    stock.complete = stored.inventory && without_gaps(repository.target(), inventoried);
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        stock.last_sequence = std::max(stock.last_sequence, entry.name.sequence);
        // The last of those that the inventory knows may have got packs since, by merging.
        if (entry.name.sequence < inventoried) {
            return false;
        }
        stock.backups_not_inventoried += entry.name.sequence > inventoried ? 1 : 0;
        stock.complete &= entry.manifest.has_value();
        for (std::size_t i = 0; entry.manifest && i < entry.manifest->packs.size(); ++i) {
            const auto& bytes = entry.manifest->pack_bytes;
            wanted.push_back({entry.manifest->packs[i], i < bytes.size() ? bytes[i] : 0, 0});
        }
        return true;
    });
    sort_by_pack(wanted);
    list_packs(repository.target(), stock);
    for (const InventoryEntry& entry : wanted) {
        if (!is_as_it_should_be(stock.find(entry.pack), entry)) {
            stock.lost.push_back(entry);
        }
    }
    return stock;
}

void complete_stock(const Repository& repository, const Manifest& backup, PackStock& stock) {
    std::set<PackId> missing;
    try {
        UseMarks marks(repository, [&](const Run& run) {
            if (stock.find(run.pack) == nullptr) {
                missing.insert(run.pack);
            }
        });
        marks.add(backup.tree);
        stock.complete = true;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
    }
    for (const PackId& pack : missing) {
        stock.lost.push_back({pack, 0, 0});
    }
    sort_by_pack(stock.lost);
}

void store_inventory(const Repository& repository, const Lease& lease, const PackStock& stock) {
    const std::set<SessionId> unfinished = repository.unfinished_sessions();
    Inventory inventory;
    inventory.sequence = stock.last_sequence;
    inventory.packs = stock.lost;
    for (const InventoryEntry& entry : stock.present) {
        if (!unfinished.contains(entry.pack.session())) {
            inventory.packs.push_back(entry);
        }
    }
    sort_by_pack(inventory.packs);  // of what is cut off, what it should be
    if (inventory.packs.size() > kInventoryLimit) {
        return;
    }
    try {
        const StoredInventory stored = load_inventory(repository.target(), repository.info().uuid);
        lease.check();
        if (stored.replaceable) {
            repository.target().swap(layout::kInventory, stored.version, encode_inventory(repository.info().uuid, inventory));
        }
        fault::step("inventory.stored");
    } catch (const Error& error) {
        if (error.status() == ExitStatus::kLocked) {
            throw;
        }
    }
}

std::vector<std::uint64_t> sizes_of(const Repository& repository, std::span<const PackId> packs) {
    std::vector<std::uint64_t> sizes;
    sizes.reserve(packs.size());
    for (const PackId& pack : packs) {
        auto object = repository.target().open(layout::pack({layout::PackKind::kData, pack, 0}));
        if (!object) {
            object = repository.target().open(layout::pack({layout::PackKind::kNodes, pack, 0}));
        }
        if (!object) {
            throw Error::failed("pack " + pack.hex() + " was stored just now in " + repository.target().describe() + ", and has gone",
                                "find out what removes files there, then run it again");
        }
        sizes.push_back(object->size());
    }
    return sizes;
}

}  // namespace nodesnap
