// Inventory: the object "inventory", which says what packs the repository had at one time. See docs/format.md, "Inventory". A backup refers
// to earlier packs without reading them: by this it notices when one is gone or cut off. Who can't read it knows only what manifests list.
// Pure functions on bytes and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

struct InventoryEntry {
    PackId pack;
    std::uint64_t bytes = 0;  // 0: not known
    std::uint32_t generation = 0;
    bool operator==(const InventoryEntry&) const = default;
};

struct Inventory {
    std::uint64_t sequence = 0;         // packs that only backups of higher sequence numbers list needn't be among them
    std::vector<InventoryEntry> packs;  // in ascending order, one for each
};

struct StoredInventory {
    std::optional<Inventory> inventory;
    std::string flaw;                    // why there is none; empty: there is no such object
    bool replaceable = true;             // false: a newer version's, which this one must not write anew
    std::optional<std::string> version;  // of the object
};

inline constexpr std::size_t kInventoryLimit = 1U << 20;  // packs

Bytes encode_inventory(const Uuid& repository, const Inventory& inventory);
StoredInventory parse_inventory(std::span<const std::byte> bytes, const Uuid& repository);
StoredInventory load_inventory(Target& target, const Uuid& repository);

}  // namespace nodesnap
