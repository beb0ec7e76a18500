#include "snapshot/repository/inventory.h"

#include <utility>

#include "platform/error.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/object_header.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSequenceBytes = 8;
constexpr std::size_t kEntryBytes = 28;
constexpr std::size_t kPackBytes = 16, kGeneration = 24;  // offsets in an entry, behind the pack's id
constexpr std::uint64_t kObjectLimit = kHeaderBytes + kSequenceBytes + kEntryBytes * kInventoryLimit;

StoredInventory flawed(std::string why, bool replaceable = true) {
    StoredInventory result;
    result.flaw = std::move(why);
    result.replaceable = replaceable;
    return result;
}

InventoryEntry parse_entry(std::span<const std::byte> bytes) {
    InventoryEntry entry;
    std::memcpy(entry.pack.bytes.data(), bytes.data(), entry.pack.bytes.size());
    entry.bytes = load_little_endian<std::uint64_t>(bytes, kPackBytes);
    entry.generation = load_little_endian<std::uint32_t>(bytes, kGeneration);
    return entry;
}

StoredInventory parse_payload(std::span<const std::byte> payload) {
    if (payload.size() < kSequenceBytes || (payload.size() - kSequenceBytes) % kEntryBytes != 0) {
        return flawed("wrong length");
    }
    Inventory inventory;
    inventory.sequence = load_little_endian<std::uint64_t>(payload, 0);
    inventory.packs.reserve(payload.size() / kEntryBytes);
    for (std::size_t at = kSequenceBytes; at < payload.size(); at += kEntryBytes) {
        const InventoryEntry entry = parse_entry(payload.subspan(at, kEntryBytes));
        if (!inventory.packs.empty() && inventory.packs.back().pack >= entry.pack) {
            return flawed("its entries can't be right");
        }
        inventory.packs.push_back(entry);
    }
    StoredInventory result;
    result.inventory = std::move(inventory);
    return result;
}

}  // namespace

Bytes encode_inventory(const Uuid& repository, const Inventory& inventory) {
    Bytes object(kHeaderBytes + kSequenceBytes + inventory.packs.size() * kEntryBytes);
    const std::span<std::byte> payload = std::span(object).subspan(kHeaderBytes);
    store_little_endian(payload, 0, inventory.sequence);
    std::size_t at = kSequenceBytes;
    for (const InventoryEntry& entry : inventory.packs) {
        std::memcpy(payload.data() + at, entry.pack.bytes.data(), entry.pack.bytes.size());
        store_little_endian(payload, at + kPackBytes, entry.bytes);
        store_little_endian(payload, at + kGeneration, entry.generation);
        at += kEntryBytes;
    }
    ObjectHeader header;
    header.kind = ObjectKind::kInventory;
    header.repository = repository;
    header.payload_length = payload.size();
    header.payload_checksum = Hasher(0)(payload);
    encode_object_header(header, std::span(object).first<kHeaderBytes>());
    return object;
}

StoredInventory parse_inventory(std::span<const std::byte> bytes, const Uuid& repository) {
    const auto header = parse_object_header(bytes);
    if (!header) {
        return flawed(header.flaw);
    }
    if (header.value->kind != ObjectKind::kInventory || header.value->repository != repository) {
        return flawed("it is another object");
    }
    const auto payload = bytes.subspan(kHeaderBytes);
    if (header.value->payload_length != payload.size() || !matches(header.value->payload_checksum, payload)) {
        return flawed("checksum mismatch");
    }
    if ((header.value->incompat & ~kKnownIncompat) != 0) {
        return flawed("a newer version of nodesnap wrote it", false);
    }
    StoredInventory result = parse_payload(payload);
    result.replaceable = (header.value->read_only_compat & ~kKnownReadOnlyCompat) == 0;
    return result;
}

StoredInventory load_inventory(Target& target, const Uuid& repository) {
    try {
        const auto object = target.load_salvaging(layout::kInventory, kObjectLimit);
        if (!object) {
            return {};
        }
        StoredInventory result = parse_inventory(object->content, repository);
        result.version = object->version;
        return result;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
        return flawed(error.message(), false);
    }
}

}  // namespace nodesnap
