// Backups that no drain would make: each ends with an error that says so, in bounded time, and puts nothing in place.
#include <cstring>

#include "platform/xattr.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/restore.h"
#include "snapshot/restore/owners.h"
#include "snapshot/run_reader.h"
#include "tests/snapshot/restore_fixture.h"

namespace nodesnap::test {
namespace {

class RestoreHostile : public RestoreTest {
protected:
    RestoreHostile() : repository_(open()), pack_(made_backup_.data_pack(repository_, 4)) {}

    void expect_damaged(const char* what) {
        const auto backup = made_backup_.publish(repository_);
        EXPECT_EQ(failure_of(backup), ExitStatus::kDamaged) << what << ": " << message_;
        EXPECT_FALSE(fs::exists(place())) << what;
        auto dry = options();
        dry.dry_run = true;
        failure_of(backup, dry);  // must come to an end as well
        fs::remove_all(staging());
    }
    void add(const std::string& name, const Inode& inode) {
        made_backup_.inode(next_, inode);
        made_backup_.name(MadeBackup::kRoot, name, next_++, inode.type);
    }

    MadeBackup made_backup_;
    Repository repository_;
    PackId pack_;
    std::uint64_t next_ = 10;
};

TEST_F(RestoreHostile, DirectoryThatContainsItself) {
    made_backup_.directory(2);
    made_backup_.name(MadeBackup::kRoot, "a", 2, FileType::kDirectory);
    made_backup_.name(2, "b", MadeBackup::kRoot, FileType::kDirectory);
    expect_damaged("cycle");
}

TEST_F(RestoreHostile, DirectoriesWithManyNamesDoNotMultiply) {
    for (std::uint64_t level = 2; level < 60; ++level) {
        made_backup_.directory(level);
        for (const auto* name : {"a", "b", "c"}) {
            made_backup_.name(level == 2 ? MadeBackup::kRoot : level - 1, name, level, FileType::kDirectory);
        }
    }
    expect_damaged("shared directories");
}

TEST_F(RestoreHostile, MissingInode) {
    made_backup_.name(MadeBackup::kRoot, "a", 77);
    expect_damaged("missing inode");
}

TEST_F(RestoreHostile, InodeOfAnotherType) {
    made_backup_.directory(2);
    made_backup_.name(MadeBackup::kRoot, "a", 2, FileType::kRegular);
    expect_damaged("type");
}

TEST_F(RestoreHostile, RunsThatNameWhatIsNotThere) {
    add("a", MadeBackup::file(pack_, 3, 2));
    expect_damaged("segments beyond the pack");
}

TEST_F(RestoreHostile, RunLongerThanItsSegments) {
    auto file = MadeBackup::file(pack_, 0, 2);
    file.runs.front().length += 1;
    file.size += 1;
    add("a", file);
    expect_damaged("too short");
}

TEST_F(RestoreHostile, SkipBeyondTheSegments) {
    auto file = MadeBackup::file(pack_, 0, 2);
    file.runs.front().skip = 4'000'000'000;
    add("a", file);
    expect_damaged("skip");
}

TEST_F(RestoreHostile, PackThatDoesNotExist) {
    add("a", MadeBackup::file(PackId::of(SessionId::random(), 3), 0, 1));
    expect_damaged("pack");
}

TEST_F(RestoreHostile, NamesThatCannotBe) {
    for (const std::string& name : {std::string(".."), std::string("."), std::string("a/b"), std::string("a\0b", 3)}) {
        MadeBackup backup;
        backup.inode(5, Inode{});
        try {
            backup.name(MadeBackup::kRoot, name, 5);
        } catch (const Error&) {
            continue;  // can't even be stored
        }
        const auto manifest = backup.publish(repository_);
        EXPECT_EQ(failure_of(manifest), ExitStatus::kDamaged) << name << ": " << message_;
        EXPECT_FALSE(fs::exists(place()));
        EXPECT_FALSE(fs::exists(base() / "b"));
        fs::remove_all(staging());
    }
}

TEST_F(RestoreHostile, HugeSparseFileIsAnErrorOrAHole) {
    Inode file;
    file.size = (std::uint64_t{1} << 63) - 1;
    add("a", file);
    failure_of(made_backup_.publish(repository_));  // the file system decides
    fs::remove_all(staging());
}

TEST_F(RestoreHostile, ATreeOfManyLevelsNeedsFewDescriptors) {
    constexpr std::uint64_t kLevels = 3000;
    for (std::uint64_t level = 2; level < kLevels; ++level) {
        made_backup_.directory(level);
        made_backup_.name(level - 1, "d", level, FileType::kDirectory);
        made_backup_.inode(100'000 + level, MadeBackup::file(pack_, 0, 1));
        made_backup_.name(level, "f", 100'000 + level);
    }
    restore(made_backup_.publish(repository_));
    run({"rm", "-rf", place().string()});
}

TEST_F(RestoreHostile, OverlappingPiecesOfOneSegmentAreAllRight) {
    auto file = MadeBackup::file(pack_, 0, 1);
    file.size = 300;
    file.runs = {nodesnap::Run{0, 100, pack_, 1, 70'000, 1, nodesnap::Run::kNone},
                 nodesnap::Run{100, 100, pack_, 1, 0, 1, nodesnap::Run::kNone},
                 nodesnap::Run{200, 100, pack_, 0, 99'950, 2, nodesnap::Run::kNone}};
    file.run_count = 3;
    add("a", file);
    restore(made_backup_.publish(repository_));
    EXPECT_EQ(read_file(place() / "a"), std::string(200, '\2') + std::string(50, '\1') + std::string(50, '\2'));
}

TEST_F(RestoreHostile, DumpGivesContentWithZerosForHoles) {
    auto file = MadeBackup::file(pack_, 0, 1);
    file.size = 3'000'000;
    file.runs = {nodesnap::Run{1'500'000, 100'000, pack_, 2, 0, 1, nodesnap::Run::kNone},
                 nodesnap::Run{2'000'000, 10, PackId{}, 0, 0, 0, nodesnap::Run::kUnwritten}};
    file.run_count = 2;
    add("a", file);
    Inode link;
    link.type = FileType::kSymlink;
    link.content = Bytes(6, std::byte{'t'});
    link.size = 6;
    add("link", link);
    const auto backup = made_backup_.publish(repository_);
    const auto dumped = [&](const std::string& path) {
        const FileDescriptor out(::open((base() / "out").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
        dump_file(repository_, backup, path, out.get(), {}, report_);
        return read_file(base() / "out");
    };
    std::string wanted(3'000'000, '\0');
    std::memset(wanted.data() + 1'500'000, 3, 100'000);
    EXPECT_TRUE(dumped("/a") == wanted);
    EXPECT_EQ(dumped("link"), "tttttt");
    EXPECT_THROW(dumped("b"), Error);
    EXPECT_THROW(dumped(""), Error);
    ::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    ::close(ends[0]);
    EXPECT_THROW(dump_file(repository_, backup, "a", ends[1], {}, report_), Error);
    ::close(ends[1]);
}

TEST_F(RestoreHostile, LargeAttributesAreReadFromTheirSegments) {
    auto file = MadeBackup::file(pack_, 0, 1);
    file.xattr_count = 1;
    add("a", file);
    Xattr value;
    value.size = 3000;
    value.runs = {nodesnap::Run{0, 3000, pack_, 1, 5, 1, nodesnap::Run::kNone}};
    made_backup_.put(key::xattr(next_ - 1, "user.large"), encode(value));
    restore(made_backup_.publish(repository_));
    const FileDescriptor fd(::open((place() / "a").c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(xattr::get(fd.get(), "user.large"), std::vector<std::byte>(3000, std::byte{2}));
}

// A pack whose segments are compressed, as a later version will make them.
class EncodedPack : public RestoreTest {
protected:
    PackId store(Repository& repository, const SessionId& session, bool wrong_plain, bool wrong_stored) {
        const auto id = PackId::of(session, 7);
        PackIndex index(layout::PackKind::kData, id, 0);
        auto object = pack_head(repository.info().uuid, layout::PackKind::kData, id, 0);
        Compressor compressor;
        for (int number = 0; number < 3; ++number) {
            object.resize((object.size() + kPackAlignment - 1) / kPackAlignment * kPackAlignment);
            Bytes plain(200'000);
            for (std::size_t i = 0; i < plain.size(); ++i) {
                plain[i] = static_cast<std::byte>(i / 100 + static_cast<std::size_t>(number));
            }
            plain_.insert(plain_.end(), plain.begin(), plain.end());
            Bytes stored(compress_bound(plain.size()));
            stored.resize(compressor.compress(plain, stored));
            std::vector<Checksum> blocks;
            for (std::size_t at = 0; at < plain.size(); at += kChecksumBlock) {
                blocks.push_back(
                    repository.hasher()(std::span(plain).subspan(at, std::min<std::size_t>(kChecksumBlock, plain.size() - at))));
            }
            auto checksum = repository.hasher()(stored);
            checksum.low ^= wrong_stored ? 1 : 0;
            blocks.back().high ^= wrong_plain ? 1 : 0;
            index.add({object.size(), 0, static_cast<std::uint32_t>(stored.size()), static_cast<std::uint32_t>(plain.size()), Codec::kZstd},
                      blocks, checksum);
            object.insert(object.end(), stored.begin(), stored.end());
        }
        const auto tail = pack_tail(repository.info().uuid, index, object.size());
        object.insert(object.end(), tail.begin(), tail.end());
        made_.target->poke(layout::pack({layout::PackKind::kData, id, 0}), object);
        return id;
    }
    Manifest backup_of(Repository& repository, bool wrong_plain, bool wrong_stored) {
        plain_.clear();
        const auto pack = store(repository, SessionId::random(), wrong_plain, wrong_stored);
        MadeBackup made;
        Inode file;
        file.size = plain_.size() - 1000;
        file.runs = {nodesnap::Run{0, file.size, pack, 0, 1000, 3, nodesnap::Run::kNone}};
        file.run_count = 1;
        made.inode(5, file);
        made.name(MadeBackup::kRoot, "a", 5);
        return made.publish(repository);
    }
    Bytes plain_;
};

TEST_F(EncodedPack, IsDecodedAndVerified) {
    auto repository = open();
    restore(backup_of(repository, false, false));
    const auto got = read_file(place() / "a");
    ASSERT_EQ(got.size(), plain_.size() - 1000);
    EXPECT_EQ(std::memcmp(got.data(), plain_.data() + 1000, got.size()), 0);
    fs::remove_all(place());
    EXPECT_EQ(failure_of(backup_of(repository, true, false)), ExitStatus::kDamaged);
    fs::remove_all(staging());
    EXPECT_EQ(failure_of(backup_of(repository, false, true)), ExitStatus::kDamaged);
}

TEST_F(RestoreHostile, OwnersAreFoundByNameThenByNumber) {
    made_backup_.put(key::user(4000), encode_owner_name("nobody"));
    made_backup_.put(key::user(4001), encode_owner_name("no such user here"));
    made_backup_.put(key::group(4000), encode_owner_name("nogroup"));
    const auto backup = made_backup_.publish(repository_);
    OwnerMap by_name(repository_, backup, {}, report_);
    EXPECT_EQ(by_name.user(4000), 65534U);
    EXPECT_EQ(by_name.group(4000), 65534U);
    EXPECT_EQ(by_name.user(4001), 4001U);
    EXPECT_EQ(by_name.user(4001), 4001U);
    EXPECT_EQ(by_name.user(4002), 4002U);
    EXPECT_EQ(report_.count(), 1U) << "an unknown name is told once";
    OwnerOptions numeric;
    numeric.numeric_ids = true;
    numeric.users = {{"no such user here", "12"}, {"4002", "nobody"}};
    OwnerMap mapped(repository_, backup, numeric, report_);
    EXPECT_EQ(mapped.user(4000), 4000U);
    EXPECT_EQ(mapped.user(4001), 12U);
    EXPECT_EQ(mapped.user(4002), 65534U);
    OwnerOptions wrong;
    wrong.groups = {{"4000", "no such group here"}};
    EXPECT_THROW(OwnerMap(repository_, backup, wrong, report_), Error);
    wrong.users = {{"4000", "4294967295"}};  // to chown() it means: leave it as it is
    wrong.groups.clear();
    EXPECT_THROW(OwnerMap(repository_, backup, wrong, report_), Error);
    // version 2; user 4000 rwx; owner r; group 4000 rw
    const unsigned char acl[] = {2, 0, 0,    0,    2,    0,    7, 0, 0xa0, 0x0f, 0,    0,    1, 0,
                                 4, 0, 0xff, 0xff, 0xff, 0xff, 8, 0, 6,    0,    0xa0, 0x0f, 0, 0};
    const auto got = by_name.acl(std::as_bytes(std::span(acl)));
    EXPECT_EQ(std::to_integer<int>(got[8]), 0xfe);
    EXPECT_EQ(std::to_integer<int>(got[9]), 0xff);
    EXPECT_EQ(std::to_integer<int>(got[16]), 0xff);
    EXPECT_EQ(std::to_integer<int>(got[24]), 0xfe);
}

}  // namespace
}  // namespace nodesnap::test
