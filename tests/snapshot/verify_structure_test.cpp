// What run_verify() says of trees that no backup would have written, and of damaged objects.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap {
namespace {

using test::MadeBackup;
using test::MadeRepository;

VerifyResult verify(const MadeRepository& made, bool data = false, const std::string& backup = "") {
    Repository repository = made.open();
    VerifyOptions options;
    options.data = data;
    options.backup = backup;
    options.workers = 2;
    Progress progress;
    return run_verify(repository, options, progress);
}

// Whether one of the damages says this.
bool says(const VerifyResult& result, const std::string& text) {
    return std::any_of(result.damages.begin(), result.damages.end(),
                       [&](const Damage& damage) { return damage.what.find(text) != std::string::npos; });
}

bool holds(const std::vector<std::string>& texts, const std::string& part) {
    return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

// A backup that is right but for what `spoil` does to it.
template <typename Spoil>
VerifyResult verify_spoiled(Spoil spoil) {
    MadeRepository made;
    Repository repository = made.open();
    MadeBackup backup;
    const PackId pack = backup.data_pack(repository, 4);
    backup.directory(2);
    backup.name(MadeBackup::kRoot, "data", 2, FileType::kDirectory);
    backup.inode(3, MadeBackup::file(pack, 0, 2));
    backup.name(2, "file", 3);
    spoil(backup, pack);
    backup.publish(repository);
    return verify(made);
}

TEST(Verify, AnEmptyRepositoryIsWhole) {
    const MadeRepository made;
    const VerifyResult result = verify(made, true);
    EXPECT_FALSE(result.needs_repair());
    EXPECT_EQ(result.backups, 0U);
}

TEST(Verify, AWholeRepositoryHasNoDamage) {
    MadeRepository made;
    made.add_backup();
    made.add_backup();
    const VerifyResult result = verify(made, true);
    EXPECT_TRUE(result.damages.empty());
    EXPECT_TRUE(result.information.empty());
    EXPECT_EQ(result.backups, 2U);
    EXPECT_EQ(result.segments, 12U);
    EXPECT_GT(result.bytes_read, 12U * MadeBackup::kSegmentBytes);
}

TEST(Verify, ANameThatLeadsNowhereIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.name(2, "lost", 77); });
    EXPECT_EQ(result.damages.size(), 1U);
    EXPECT_TRUE(says(result, "inode 77, which isn't there"));
    EXPECT_EQ(result.lost_count, 1U);
}

TEST(Verify, ANameOfAnotherTypeIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.name(2, "fifo", 3, FileType::kFifo); });
    EXPECT_TRUE(says(result, "of another type"));
}

TEST(Verify, AnInodeWithoutANameIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId& pack) { backup.inode(9, MadeBackup::file(pack, 0, 1)); });
    EXPECT_TRUE(says(result, "inode 9: no name leads to it"));
}

TEST(Verify, MoreNamesThanLinksAreDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.name(2, "again", 3); });
    EXPECT_TRUE(says(result, "2 names, but only 1 links"));
}

TEST(Verify, NamesInWhatIsNoDirectoryAreDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.name(3, "inside", 3); });
    EXPECT_TRUE(says(result, "isn't a directory"));
}

TEST(Verify, NamesBelowAMissingDirectoryAreDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.erase(key::inode(2)); });
    EXPECT_TRUE(says(result, "inode 2: it holds names, but has no record"));
    EXPECT_TRUE(says(result, "inode 2, which isn't there"));
}

TEST(Verify, AMissingRootIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.erase(key::inode(MadeBackup::kRoot)); });
    EXPECT_TRUE(says(result, "the node directory itself isn't there"));
}

TEST(Verify, DirectoriesThatContainEachOtherAreDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) {
        for (std::uint64_t ino = 100; ino < 105; ++ino) {
            backup.directory(ino);
            backup.name(ino, "next", ino == 104 ? 100 : ino + 1, FileType::kDirectory);
        }
    });
    EXPECT_EQ(result.damages.size(), 1U);
    EXPECT_TRUE(says(result, "5 of them aren't below"));
}

TEST(Verify, ADirectoryThatContainsTheRootIsDamage) {
    const auto result =
        verify_spoiled([](MadeBackup& backup, const PackId&) { backup.name(2, "up", MadeBackup::kRoot, FileType::kDirectory); });
    EXPECT_TRUE(says(result, "the node directory is an entry of a directory in it"));
}

TEST(Verify, ADirectoryWithTwoNamesIsDamage) {
    const auto result =
        verify_spoiled([](MadeBackup& backup, const PackId&) { backup.name(MadeBackup::kRoot, "twice", 2, FileType::kDirectory); });
    EXPECT_TRUE(says(result, "several names"));
}

TEST(Verify, DeepDirectoriesAreNoCircle) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) {
        for (std::uint64_t ino = 100; ino < 400; ++ino) {
            backup.directory(ino);
            backup.name(ino == 100 ? MadeBackup::kRoot : ino - 1, "deeper", ino, FileType::kDirectory);
        }
    });
    EXPECT_TRUE(result.damages.empty());
}

TEST(Verify, ANameThatCannotBeIsDamage) {
    for (const std::string name : {".", "..", "a/b"}) {
        const auto result = verify_spoiled([&](MadeBackup& backup, const PackId&) { backup.name(2, name, 3); });
        EXPECT_TRUE(result.needs_repair()) << name;
    }
}

TEST(Verify, MissingAttributesAreDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId& pack) {
        Inode inode = MadeBackup::file(pack, 0, 2);
        inode.xattr_count = 2;
        backup.inode(3, inode);
        Xattr xattr;
        xattr.value = Bytes(3, std::byte{'v'});
        xattr.size = 3;
        backup.put(key::xattr(3, "user.one"), encode(xattr));
    });
    EXPECT_TRUE(says(result, "should have 2 attributes, but has 1"));
}

TEST(Verify, SegmentsThatAPackDoesNotHaveAreDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId& pack) {
        backup.inode(6, MadeBackup::file(pack, 3, 2));
        backup.name(2, "beyond", 6);
    });
    EXPECT_TRUE(says(result, "segments 3 to 4, but it has only 4"));
    EXPECT_TRUE(holds(result.affected, "data/beyond, bytes 0 to"));
}

TEST(Verify, ARunLongerThanItsSegmentsIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId& pack) {
        Inode inode = MadeBackup::file(pack, 0, 1);
        inode.size = inode.runs[0].length = MadeBackup::kSegmentBytes + 1;
        backup.inode(3, inode);
    });
    EXPECT_TRUE(says(result, "which hold 100000"));
}

TEST(Verify, ARunThatNamesASegmentTooManyIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId& pack) {
        Inode inode = MadeBackup::file(pack, 0, 2);
        inode.size = inode.runs[0].length = MadeBackup::kSegmentBytes;
        backup.inode(3, inode);
    });
    EXPECT_TRUE(result.needs_repair());
}

TEST(Verify, AMapBeyondTheEndOfTheFileIsDamage) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId& pack) {
        Inode inode = MadeBackup::file(pack, 0, 2);
        inode.size -= 1;
        backup.inode(3, inode);
    });
    EXPECT_TRUE(result.needs_repair());
}

TEST(Verify, ARecordThatCannotBeReadIsDamageOfItsFile) {
    const auto result = verify_spoiled([](MadeBackup& backup, const PackId&) { backup.put(key::inode(3), Bytes(40, std::byte{0xff})); });
    EXPECT_TRUE(says(result, "inode 3: "));
    EXPECT_EQ(result.backups, 1U);
}

TEST(Verify, AMissingPackIsDamageAndItsFilesAreNamed) {
    MadeRepository made;
    const Manifest manifest = made.add_backup();
    made.target->erase(made.data_pack());
    const VerifyResult result = verify(made);
    ASSERT_EQ(result.damages.size(), 1U);
    EXPECT_EQ(result.damages[0].what, "it is missing");
    EXPECT_EQ(result.affected, (std::vector<std::string>{"backup " + manifest.id.hex() + ", data/first, bytes 0 to 299999",
                                                         "backup " + manifest.id.hex() + ", data/second, bytes 0 to 299999"}));
}

TEST(Verify, WhatALostPackOfMetadataAffectsIsToldOnce) {
    MadeRepository made;
    const Manifest manifest = made.add_backup();
    made.target->erase(made.node_pack());
    made.target->erase(made.data_pack());
    const VerifyResult result = verify(made);
    ASSERT_FALSE(result.affected.empty());
    EXPECT_TRUE(holds(result.affected, "a part of its tree of names is lost"));
    for (const auto& affected : result.affected) {
        EXPECT_EQ(affected.find(", ,"), std::string::npos) << affected;
        EXPECT_EQ(affected.find("nodes/"), std::string::npos) << affected;
    }
    EXPECT_LE(result.affected.size(), 2U);  // and the node directory, whose record is lost
}

TEST(Verify, DamagedDataIsFoundOnlyWithData) {
    MadeRepository made;
    const Manifest manifest = made.add_backup();
    // In the second block of segment 4: each segment takes 25 blocks of 4096.
    made.flip(made.data_pack(), 4096 + 4 * 25 * 4096 + 70'000);
    EXPECT_FALSE(verify(made).needs_repair());
    const VerifyResult result = verify(made, true);
    ASSERT_EQ(result.damages.size(), 1U);
    EXPECT_EQ(result.damages[0].object, made.data_pack());
    EXPECT_FALSE(result.damages[0].healed);
    EXPECT_EQ(result.damages[0].what, "segment 4 (bytes 413696 to 513695): checksum mismatch in 1 of its 2 blocks");
    EXPECT_EQ(result.affected, (std::vector<std::string>{"backup " + manifest.id.hex() + ", data/second, bytes 165536 to 199999"}));
}

TEST(Verify, ADamagedBackupDoesNotHideTheOthers) {
    MadeRepository made;
    made.add_backup();
    made.add_backup();
    const std::string first = made.names("backups/").at(0);
    made.target->poke(first, Bytes(8192, std::byte{0}));
    const VerifyResult result = verify(made, true);
    EXPECT_EQ(result.backups, 2U);
    EXPECT_EQ(result.lost_count, 1U);
    EXPECT_EQ(result.segments, 6U);
    EXPECT_EQ(result.affected.size(), 1U);
    EXPECT_TRUE(holds(result.affected, "all of it"));
    EXPECT_EQ(result.information.size(), 1U);
    EXPECT_TRUE(holds(result.information, "belong to no backup"));
}

TEST(Verify, OneBackupAloneCanBeVerified) {
    MadeRepository made;
    const Manifest first = made.add_backup();
    made.add_backup();
    made.target->erase(layout::pack({layout::PackKind::kData, first.packs.at(0), 0}));
    EXPECT_FALSE(verify(made, true, "latest").needs_repair());
    EXPECT_TRUE(verify(made, true, first.id.hex()).needs_repair());
    EXPECT_TRUE(verify(made, true, "latest").information.empty());
}

TEST(Verify, PacksOfNoBackupAreANoteOnly) {
    MadeRepository made;
    made.add_backup();
    Repository repository = made.open();
    MadeBackup().data_pack(repository, 1);
    const VerifyResult result = verify(made, true);
    EXPECT_FALSE(result.needs_repair());
    EXPECT_EQ(result.information.size(), 1U);
    EXPECT_TRUE(holds(result.information, "1 packs"));
}

TEST(Verify, StopsWhenItIsInterrupted) {
    MadeRepository made;
    made.add_backup();
    interrupt::request();
    EXPECT_THROW(verify(made, true), Error);
    interrupt::clear();
}

TEST(Verify, AnObjectThatTheDeviceCannotOpenIsDamage) {
    MadeRepository made;
    made.add_backup();
    for (std::uint64_t nth = 1; nth < 100; ++nth) {
        Repository repository = made.open();
        const std::uint64_t before = made.target->count(test::StrictTarget::Op::kOpen);
        made.target->fail(test::StrictTarget::Op::kOpen, nth, EIO);
        Progress progress;
        const VerifyResult result = run_verify(repository, {}, progress);
        made.target->clear_faults();
        if (made.target->count(test::StrictTarget::Op::kOpen) - before < nth) {
            EXPECT_FALSE(result.needs_repair());
            EXPECT_GT(nth, 3U);
            return;
        }
        EXPECT_TRUE(result.needs_repair()) << nth;
    }
    FAIL() << "no run was clean";
}

TEST(Verify, ATargetThatFailsIsNoDamage) {
    MadeRepository made;
    made.add_backup();
    for (std::uint64_t nth = 1; nth < 200; ++nth) {
        Repository repository = made.open();
        made.target->fail(test::StrictTarget::Op::kRead, nth, EACCES);
        VerifyOptions options;
        options.data = true;
        Progress progress;
        bool failed = false;
        try {
            EXPECT_FALSE(run_verify(repository, options, progress).needs_repair());
        } catch (const Error& error) {
            failed = true;
            EXPECT_EQ(error.status(), ExitStatus::kFailed);
        }
        made.target->clear_faults();
        if (!failed) {
            EXPECT_GT(nth, 5U);
            return;
        }
    }
    FAIL() << "no run was clean";
}

TEST(Verify, TellsOfWhatIsNotNodesnaps) {
    MadeRepository made;
    made.add_backup();
    EXPECT_TRUE(verify(made).information.empty());
    for (const char* name : {"backups/foo", "packs/x", "nodes/00/junk"}) {
        made.target->create(name, Bytes(3));
    }
    const VerifyResult result = verify(made);
    EXPECT_FALSE(result.needs_repair());
    for (const std::string name : {"backups/foo", "packs/x", "nodes/00/junk"}) {
        EXPECT_TRUE(holds(result.information, name)) << name;
    }
    for (int i = 0; i < 100; ++i) {
        made.target->create("packs/many" + std::to_string(i), Bytes(3));
    }
    EXPECT_LT(verify(made).information.size(), 20U);
    EXPECT_TRUE(holds(verify(made).information, "95 more"));
}

}  // namespace
}  // namespace nodesnap
