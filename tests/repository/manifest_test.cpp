#include "snapshot/repository/manifest.h"

#include <gtest/gtest.h>

#include "metadata_generated.h"
#include "snapshot/repository/manifest_fields.h"
#include "snapshot/repository/object_header.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

const std::string kName = layout::manifest(sample_manifest().name);

std::optional<Manifest> decode(const Bytes& object, Damages& damages) {
    return decode_manifest(object, kName, sample_uuid(), damages.sink());
}

void expect_equal(const Manifest& a, const Manifest& b) {
    EXPECT_EQ(a.id, b.id);
    EXPECT_TRUE(a.name.same_backup(b.name) && a.name.revision == b.name.revision);
    EXPECT_EQ(a.epoch, b.epoch);
    EXPECT_EQ(a.snapshot_time_ns, b.snapshot_time_ns);
    EXPECT_EQ(a.finished_time_ns, b.finished_time_ns);
    EXPECT_EQ(a.snapshot_duration_ns, b.snapshot_duration_ns);
    EXPECT_EQ(a.held_ns, b.held_ns);
    EXPECT_EQ(a.consistency, b.consistency);
    EXPECT_EQ(a.damaged, b.damaged);
    EXPECT_EQ(a.pinned, b.pinned);
    EXPECT_EQ(a.pins, b.pins);
    EXPECT_EQ(a.host_name, b.host_name);
    EXPECT_EQ(a.tool_version, b.tool_version);
    EXPECT_EQ(a.profile, b.profile);
    EXPECT_EQ(a.engine_version, b.engine_version);
    EXPECT_EQ(a.excludes, b.excludes);
    EXPECT_EQ(a.tags, b.tags);
    EXPECT_EQ(a.parent, b.parent);
    EXPECT_EQ(a.proof, b.proof);
    EXPECT_EQ(a.node, b.node);
    EXPECT_EQ(a.hash_seed, b.hash_seed);
    EXPECT_EQ(a.repository_created_ns, b.repository_created_ns);
    EXPECT_EQ(a.tree.node, b.tree.node);
    EXPECT_EQ(a.tree.count, b.tree.count);
    EXPECT_EQ(a.root_ino, b.root_ino);
    EXPECT_EQ(a.packs, b.packs);
    EXPECT_EQ(a.pack_bytes, b.pack_bytes);
    EXPECT_EQ(a.captured, b.captured);
    EXPECT_EQ(a.avoided_packs, b.avoided_packs);
    EXPECT_EQ(a.cut, b.cut);
    EXPECT_EQ(a.totals, b.totals);
}

TEST(Manifest, ComesBackAsItWas) {
    Manifest manifest = sample_manifest();
    Damages damages;
    expect_equal(*decode(encode_manifest(sample_uuid(), manifest), damages), manifest);
    manifest.parent = *SessionId::parse("ffffffffffffffffffffff");
    manifest.damaged = manifest.pinned = true;
    manifest.pins = {"auditors", "größe"};
    manifest.profile = "quasardb";
    manifest.engine_version = "quasardb daemon 3.14.1";
    manifest.captured = {{"/etc/qdb/qdbd.conf", 0640, 7, 8, {-1, 999'999'999}, std::string("{\0}", 3)},
                         {"/etc/qdb/users.conf", 0, 0, 0, {}, ""}};
    manifest.held_ns = 5;
    manifest.consistency = Consistency::kPointInTime;
    manifest.cut =
        CutPart{Uuid::random(), "orders", "db1", std::string(32, 'a'), CutPart::Hold::kProved, true, 1'700'000'000'000'000'000, 7};
    expect_equal(*decode(encode_manifest(sample_uuid(), manifest), damages), manifest);
    EXPECT_TRUE(damages.list.empty());
}

TEST(Manifest, AnUncertainTimeOfACutThatIsNoneIsRefused) {
    Damages damages;
    Manifest manifest = sample_manifest();
    manifest.cut = CutPart{};
    manifest.cut->doubt_ns = -1;
    EXPECT_THROW(decode(encode_manifest(sample_uuid(), manifest), damages), Error);
    manifest.cut->doubt_ns = 0;
    manifest.cut->hold = static_cast<CutPart::Hold>(3);
    EXPECT_THROW(decode(encode_manifest(sample_uuid(), manifest), damages), Error);
}

TEST(Manifest, OfAnEmptyTreeAndOfManyPacksComesBack) {
    Manifest manifest = sample_manifest();
    manifest.tree = {};
    manifest.packs.clear();
    for (std::uint32_t i = 0; i < 100'000; ++i) {
        manifest.packs.push_back(sample_pack(i));
        manifest.pack_bytes.push_back(std::uint64_t{i} << 20);
    }
    manifest.avoided_packs = {sample_pack(1), sample_pack(2)};
    Damages damages;
    const Bytes object = encode_manifest(sample_uuid(), manifest);
    EXPECT_EQ(object.size() % 8192, 0U);
    expect_equal(*decode(object, damages), manifest);
}

TEST(Manifest, LengthsOfMorePacksThanItHasAndAvoidedOnesOutOfOrderAreRefused) {
    Damages damages;
    Manifest manifest = sample_manifest();
    manifest.pack_bytes.resize(manifest.packs.size() + 1);
    EXPECT_THROW(decode(encode_manifest(sample_uuid(), manifest), damages), Error);
    manifest = sample_manifest();
    manifest.avoided_packs = {sample_pack(2), sample_pack(1)};
    EXPECT_THROW(decode(encode_manifest(sample_uuid(), manifest), damages), Error);
}

// They become paths below a directory that a restore makes.
TEST(Manifest, CapturedFilesThatNobodyCanHaveCapturedAreRefused) {
    const auto is_taken = [](std::vector<CapturedFile> files) {
        Manifest manifest = sample_manifest();
        manifest.captured = std::move(files);
        Damages damages;
        try {
            return decode(encode_manifest(sample_uuid(), manifest), damages).has_value();
        } catch (const Error&) {
            return false;
        }
    };
    const auto at = [](const std::string& path, std::size_t bytes = 0) { return CapturedFile{path, 0, 0, 0, {}, std::string(bytes, 'x')}; };
    EXPECT_TRUE(is_taken({at("/a"), at("/b/..c")}));
    for (const std::string path : {"", "a", "/", "//a", "/a/", "/a//b", "/a/./b", "/../a", "/a/.."}) {
        EXPECT_FALSE(is_taken({at(path)})) << path;
    }
    EXPECT_FALSE(is_taken({at(std::string("/a\0b", 4))}));
    EXPECT_FALSE(is_taken({at("/b"), at("/a")}));
    EXPECT_FALSE(is_taken({at("/a"), at("/a")}));
    EXPECT_TRUE(is_taken({at("/a", kCapturedLimit)}));
    EXPECT_FALSE(is_taken({at("/a", kCapturedLimit), at("/b", 1)}));
}

TEST(Manifest, AnyFlippedBitIsReportedAndCostsNothing) {
    const Bytes sound = encode_manifest(sample_uuid(), sample_manifest());
    Bytes object = sound;
    for (std::size_t i = 0; i < object.size(); ++i) {
        for (int bit = 0; bit < 8; bit += sound[i] == std::byte{0} ? 7 : 1) {
            object[i] ^= static_cast<std::byte>(1 << bit);
            Damages damages;
            const auto manifest = decode(object, damages);
            ASSERT_TRUE(manifest);
            ASSERT_EQ(damages.list.size(), 1U) << i;
            ASSERT_TRUE(damages.list[0].healed);
            ASSERT_EQ(manifest->packs, sample_manifest().packs);
            object[i] = sound[i];
        }
    }
}

TEST(Manifest, BothCopiesDamagedIsAnError) {
    const Bytes sound = encode_manifest(sample_uuid(), sample_manifest());
    const std::size_t half = sound.size() / 2;
    for (std::size_t i = 0; i < 400; ++i) {
        Bytes object = sound;
        object[i] ^= std::byte{4};
        object[half + 399 - i] ^= std::byte{4};
        Damages damages;
        try {
            decode(object, damages);
            FAIL() << i;
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        }
    }
}

TEST(Manifest, CutOffAfterItsFirstCopyStillReads) {
    const Bytes sound = encode_manifest(sample_uuid(), sample_manifest());
    for (const std::size_t length : {sound.size() / 2, sound.size() - 1}) {
        const Bytes object(sound.begin(), sound.begin() + static_cast<std::ptrdiff_t>(length));
        Damages damages;
        EXPECT_TRUE(decode(object, damages));
        ASSERT_EQ(damages.list.size(), 1U);
        EXPECT_TRUE(damages.list[0].healed);
    }
    for (std::size_t length = 0; length < 500; ++length) {
        const Bytes object(sound.begin(), sound.begin() + static_cast<std::ptrdiff_t>(length));
        Damages damages;
        EXPECT_THROW(decode(object, damages), Error) << length;
    }
}

TEST(Manifest, UnreadableSectorCostsNothing) {
    MemoryTarget target;
    target.objects[kName] = encode_manifest(sample_uuid(), sample_manifest());
    for (std::uint64_t block = 0; block < target.objects[kName].size(); block += 4096) {
        target.bad_sectors = {{kName, block}};
        Damages damages;
        EXPECT_TRUE(load_manifest(target, kName, sample_uuid(), damages.sink()).value());
        EXPECT_EQ(damages.list.size(), 1U);
    }
    Damages damages;
    EXPECT_FALSE(load_manifest(target, "backups/none", sample_uuid(), damages.sink()));
}

TEST(Manifest, UnderAnotherNameOrOfAnotherRepositoryIsDamaged) {
    const Bytes object = encode_manifest(sample_uuid(), sample_manifest());
    Damages damages;
    layout::ManifestName other = sample_manifest().name;
    other.sequence++;
    EXPECT_THROW(decode_manifest(object, layout::manifest(other), sample_uuid(), damages.sink()), Error);
    other = sample_manifest().name;
    other.revision++;
    EXPECT_THROW(decode_manifest(object, layout::manifest(other), sample_uuid(), damages.sink()), Error);
    EXPECT_THROW(decode_manifest(object, kName, Uuid{}, damages.sink()), Error);
}

TEST(Manifest, MarkOfAnAbandonedOneSurvivesAFlippedBit) {
    const Bytes sound = encode_void_manifest(sample_uuid(), sample_session(), 0);
    EXPECT_EQ(sound.size(), 8192U);
    Damages damages;
    EXPECT_FALSE(decode(sound, damages));
    EXPECT_TRUE(damages.list.empty());
    for (std::size_t i = 0; i < sound.size(); ++i) {
        Bytes object = sound;
        object[i] ^= std::byte{8};
        EXPECT_FALSE(decode(object, damages));
    }
    EXPECT_EQ(damages.list.size(), sound.size());
}

// One long text that a list names `times` times.
Bytes fields_with_shared_text(std::size_t times) {
    flatbuffers::FlatBufferBuilder builder;
    const std::vector<std::uint8_t> text(60'000, 'x'), id(11), uuid(16);
    const auto shared = format::CreateByteString(builder, builder.CreateVector(text));
    const auto excludes = builder.CreateVector(std::vector<flatbuffers::Offset<format::ByteString>>(times, shared));
    const auto node = format::CreateNodeIdentity(builder, builder.CreateVector(uuid));
    const auto session = builder.CreateVector(id);
    format::ManifestBuilder fields(builder);
    fields.add_id(session);
    fields.add_consistency(2);
    fields.add_excludes(excludes);
    fields.add_node(node);
    builder.Finish(fields.Finish());
    const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
    return Bytes(begin, begin + builder.GetSize());
}

TEST(Manifest, TextGivenManyTimesOverIsRefusedBeforeItFillsTheMemory) {
    EXPECT_TRUE(parse_manifest_fields(fields_with_shared_text(1)));
    EXPECT_FALSE(parse_manifest_fields(fields_with_shared_text(60'000)));
}

TEST(Manifest, OfANewerVersionIsRefused) {
    Bytes object = encode_manifest(sample_uuid(), sample_manifest());
    for (const std::size_t at : {std::size_t{0}, object.size() / 2}) {
        const auto bytes = std::span(object).subspan(at).first<kHeaderBytes>();
        ObjectHeader header = *parse_object_header(bytes).value;
        header.incompat = 1ULL << 63;
        encode_object_header(header, bytes);
    }
    Damages damages;
    try {
        decode(object, damages);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kRefused);
    }
}

}  // namespace
}  // namespace nodesnap::test
