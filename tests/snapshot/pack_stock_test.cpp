// Which packs are missing or cut off, as it is told without reading any; what the inventory remembers of that; and which of them a backup
// needs.
#include "snapshot/repository/pack_stock.h"

#include <gtest/gtest.h>

#include <functional>

#include "snapshot/backup/stored_damage.h"
#include "snapshot/repository/check_record.h"
#include "snapshot/repository/object_header.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap::test {
namespace {

constexpr std::uint64_t kFile = 3;

class PackStockTest : public testing::Test {
protected:
    static std::string name(const PackId& pack, std::uint32_t generation = 0, layout::PackKind kind = layout::PackKind::kData) {
        return layout::pack({kind, pack, generation});
    }
    static std::vector<PackId> packs_of(const std::vector<InventoryEntry>& entries) {
        std::vector<PackId> packs;
        packs.reserve(entries.size());
        for (const InventoryEntry& entry : entries) {
            packs.push_back(entry.pack);
        }
        return packs;
    }
    // Of one file, with all of a data pack of its own.
    Manifest add(const std::function<void(MadeBackup&, const PackId&)>& more = {}) {
        Repository repository = made_.open();
        MadeBackup backup;
        backup.tells_lengths();
        const PackId pack = backup.data_pack(repository, 2);
        backup.inode(kFile, MadeBackup::file(pack, 0, 2));
        backup.name(MadeBackup::kRoot, "file", kFile);
        if (more) {
            more(backup, pack);
        }
        return backup.publish(repository);
    }
    PackStock stock() const { return take_stock(made_.open()); }
    std::vector<PackId> lost() const { return packs_of(stock().lost); }
    void with_lease(const std::function<void(Repository&, const Lease&)>& what) const {
        Repository repository = made_.open();
        LeaseOptions options;
        options.command = "test";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, options);
        what(repository, lease);
        lease.release();
    }
    void store(const PackStock& stock) const {
        with_lease([&](Repository& repository, const Lease& lease) { store_inventory(repository, lease, stock); });
    }
    Inventory stored() const {
        const Repository repository = made_.open();
        return load_inventory(repository.target(), repository.info().uuid).inventory.value();
    }
    void set_inventory(const Inventory& inventory) const {
        made_.target->poke(std::string(layout::kInventory), encode_inventory(made_.open().info().uuid, inventory));
    }
    // As a compaction would: the same pack, of another length.
    void rewrite(const PackId& pack) const {
        Bytes bytes = made_.target->peek(name(pack));
        bytes.resize(bytes.size() / 2);
        made_.target->poke(name(pack, 1), bytes);
    }
    void cut_off(const PackId& pack) const {
        Bytes bytes = made_.target->peek(name(pack));
        bytes.resize(bytes.size() / 2);
        made_.target->poke(name(pack), bytes);
    }
    StoredDamage damage(const Manifest& parent) const {
        const Repository repository = made_.open();
        return find_stored_damage(repository, take_stock(repository), &parent);
    }
    void record(const PackId& pack, std::uint32_t generation, bool damaged) const {
        const auto first_byte = static_cast<std::uint8_t>(std::stoul(pack.hex().substr(0, 2), nullptr, 16));
        made_.target->poke(layout::checks(first_byte),
                           encode_check_record(made_.open().info().uuid, first_byte, {{pack, generation, damaged, 1'700'000'000}}));
    }

    MadeRepository made_;
};

TEST_F(PackStockTest, WhatIsMissingOrOfAnotherLengthIsLost) {
    const Manifest first = add();
    const Manifest second = add();
    EXPECT_TRUE(stock().lost.empty());
    EXPECT_EQ(stock().present.size(), 4U);
    EXPECT_EQ(stock().backups_not_inventoried, 2U);
    cut_off(first.packs[0]);
    ASSERT_EQ(lost(), std::vector{first.packs[0]});
    EXPECT_EQ(stock().lost[0].bytes, first.pack_bytes[0]);
    made_.target->erase(name(second.packs[1], 0, layout::PackKind::kNodes));
    EXPECT_EQ(lost().size(), 2U);
}

TEST_F(PackStockTest, LengthsAreKnownOfBothKinds) {
    const Manifest backup = add();
    ASSERT_EQ(backup.packs.size(), 2U);
    EXPECT_EQ(backup.pack_bytes, (std::vector{made_.size(made_.data_pack()), made_.size(made_.node_pack())}));
}

TEST_F(PackStockTest, AnUnknownLengthIsNoneThatCouldDiffer) {
    const Manifest backup = made_.add_backup();
    ASSERT_TRUE(backup.pack_bytes.empty());
    cut_off(backup.packs[0]);
    EXPECT_TRUE(stock().lost.empty());
    made_.target->erase(name(backup.packs[0]));
    EXPECT_EQ(lost(), std::vector{backup.packs[0]});
}

TEST_F(PackStockTest, AnotherGenerationHasALengthOfItsOwn) {
    const PackId pack = add().packs[0];
    rewrite(pack);
    EXPECT_EQ(stock().find(pack)->generation, 1U);
    EXPECT_EQ(stock().find(pack)->bytes, made_.size(name(pack, 1)));
    EXPECT_TRUE(stock().lost.empty());
    made_.target->erase(name(pack));
    EXPECT_TRUE(stock().lost.empty());
}

// Merging has given it packs since.
TEST_F(PackStockTest, TheLastBackupOfTheInventoryIsLookedAtAgain) {
    const Manifest backup = add();
    set_inventory({backup.name.sequence, {}});
    made_.target->erase(name(backup.packs[0]));
    EXPECT_EQ(lost(), std::vector{backup.packs[0]});
    EXPECT_EQ(stock().backups_not_inventoried, 0U);
    set_inventory({backup.name.sequence + 1, {}});
    EXPECT_TRUE(lost().empty());
}

TEST_F(PackStockTest, TheInventoryKeepsWhatAForgottenManifestListed) {
    const Manifest backup = add();
    cut_off(backup.packs[0]);
    store(stock());
    EXPECT_EQ(stored().sequence, backup.name.sequence);
    EXPECT_EQ(stored().packs.size(), 2U);
    for (const std::string& manifest : made_.names("backups/")) {
        made_.target->erase(manifest);
    }
    ASSERT_EQ(lost(), std::vector{backup.packs[0]});
    EXPECT_EQ(stock().lost[0].bytes, backup.pack_bytes[0]);
    made_.target->erase(name(backup.packs[0]));
    store(stock());
    EXPECT_EQ(lost(), std::vector{backup.packs[0]});
}

// Where it doesn't finish, its packs are removed.
TEST_F(PackStockTest, PacksOfABackupOnItsWayAreNotInventoried) {
    const Manifest backup = add();
    SessionRecord session;
    session.id = SessionId::random();
    const PackId on_its_way = PackId::of(session.id, 0);
    with_lease([&](Repository& repository, const Lease& lease) {
        session.manifest = {repository.next_sequence(), 1'700'000'000, 0};
        session.epoch = lease.epoch();
        session.host = "host";
        session.snapshot_backend = "none";
        repository.begin_session(lease, session);
    });
    made_.target->poke(name(on_its_way), made_.target->peek(name(backup.packs[0])));
    EXPECT_NE(stock().find(on_its_way), nullptr);
    store(stock());
    EXPECT_EQ(stored().packs.size(), 2U);
    made_.target->erase(name(on_its_way));
    EXPECT_TRUE(lost().empty());
}

TEST_F(PackStockTest, ANewerVersionsInventoryStays) {
    add();
    store(stock());
    const std::string object(layout::kInventory);
    Bytes bytes = made_.target->peek(object);
    ObjectHeader header = *parse_object_header(bytes).value;
    header.incompat = 1;
    encode_object_header(header, std::span(bytes).first<kHeaderBytes>());
    made_.target->poke(object, bytes);
    store(stock());
    EXPECT_EQ(made_.target->peek(object), bytes);
}

// ---- What of it a backup needs

TEST_F(PackStockTest, OnlyWhatTheParentRefersToIsNeeded) {
    const Manifest other = add();
    const Manifest parent = add();
    EXPECT_TRUE(damage(parent).packs.empty());
    cut_off(other.packs[0]);
    EXPECT_EQ(damage(parent).packs, std::vector{other.packs[0]});
    EXPECT_EQ(damage(parent).needed.size(), 0U);
    EXPECT_EQ(damage(other).needed.size(), 1U);
    made_.target->erase(name(parent.packs[0]));
    EXPECT_EQ(damage(parent).packs.size(), 2U);
    EXPECT_EQ(damage(parent).needed.size(), 1U);
    EXPECT_EQ(damage(parent).example, "pack " + parent.packs[0].hex() + ": it is missing");
    EXPECT_EQ(avoided_packs(damage(parent)), damage(parent).packs);
}

// Only a tree that can be shown to be gone through tells that it isn't: this one refers to what its manifest says that it does without.
TEST_F(PackStockTest, WhatTheParentDoesWithoutIsNotLookedForInItsTree) {
    const Manifest parent = add([](MadeBackup& backup, const PackId& pack) { backup.avoids(pack); });
    cut_off(parent.packs[0]);
    EXPECT_EQ(damage(parent).packs.size(), 1U);
    EXPECT_EQ(damage(parent).needed.size(), 0U);
    made_.target->erase(name(parent.packs[1], 0, layout::PackKind::kNodes));  // now its tree must be looked at, and can't be
    EXPECT_EQ(damage(parent).needed.size(), 1U);
}

TEST_F(PackStockTest, WhatVerifyFoundCountsForTheGenerationThatItRead) {
    const Manifest parent = add();
    record(parent.packs[0], 0, false);
    EXPECT_EQ(damage(parent).needed.size(), 0U);
    record(parent.packs[0], 0, true);
    EXPECT_EQ(damage(parent).needed.size(), 1U);
    EXPECT_NE(damage(parent).example.find("verify` found it damaged"), std::string::npos);
    rewrite(parent.packs[0]);
    EXPECT_EQ(damage(parent).needed.size(), 0U);
    EXPECT_TRUE(damage(parent).packs.empty());
}

TEST_F(PackStockTest, ARecordThatCantBeReadTellsNothing) {
    const Manifest parent = add();
    record(parent.packs[0], 0, true);
    made_.flip(made_.names("checks/").at(0), 140);
    EXPECT_TRUE(damage(parent).packs.empty());
    made_.target->spoil(made_.names("checks/").at(0), 0);
    EXPECT_TRUE(damage(parent).packs.empty());
}

}  // namespace
}  // namespace nodesnap::test
