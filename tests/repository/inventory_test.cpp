// The inventory: what is written is read again, what isn't one is taken for nothing known.
#include "snapshot/repository/inventory.h"

#include <gtest/gtest.h>

#include "snapshot/repository/object_header.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

const Inventory kInventory = {9, {{sample_pack(1), 4096, 0}, {sample_pack(2), 0, 2}, {sample_pack(3), ~std::uint64_t{0}, 7}}};

// What is read of it when its header is changed and sealed again.
template <typename Change>
StoredInventory with_header(Change change) {
    Bytes object = encode_inventory(sample_uuid(), kInventory);
    ObjectHeader header = *parse_object_header(object).value;
    change(header);
    const std::span<std::byte> bytes = object;
    encode_object_header(header, bytes.first<kHeaderBytes>());
    return parse_inventory(object, sample_uuid());
}

TEST(Inventory, WhatIsWrittenIsRead) {
    const StoredInventory stored = parse_inventory(encode_inventory(sample_uuid(), kInventory), sample_uuid());
    ASSERT_TRUE(stored.inventory);
    EXPECT_TRUE(stored.replaceable);
    EXPECT_EQ(stored.inventory->sequence, kInventory.sequence);
    EXPECT_EQ(stored.inventory->packs, kInventory.packs);
}

TEST(Inventory, OfAnotherRepositoryOrKindIsNone) {
    EXPECT_FALSE(parse_inventory(encode_inventory({}, kInventory), sample_uuid()).inventory);
    EXPECT_FALSE(with_header([](ObjectHeader& header) { header.kind = ObjectKind::kChecks; }).inventory);
}

TEST(Inventory, OfANewerVersionIsNotReplaced) {
    const StoredInventory unreadable = with_header([](ObjectHeader& header) { header.incompat = 1; });
    EXPECT_FALSE(unreadable.inventory);
    EXPECT_FALSE(unreadable.replaceable);
    const StoredInventory readable = with_header([](ObjectHeader& header) { header.read_only_compat = 1; });
    EXPECT_TRUE(readable.inventory);
    EXPECT_FALSE(readable.replaceable);
}

TEST(Inventory, EntriesOutOfOrderAreNone) {
    Inventory twice = kInventory;
    twice.packs[1].pack = twice.packs[0].pack;
    const StoredInventory stored = parse_inventory(encode_inventory(sample_uuid(), twice), sample_uuid());
    EXPECT_FALSE(stored.inventory);
    EXPECT_TRUE(stored.replaceable);
}

}  // namespace
}  // namespace nodesnap::test
