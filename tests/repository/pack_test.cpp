#include "snapshot/repository/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack_trailer.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

using layout::PackKind;

std::shared_ptr<const PackReader> open(MemoryTarget& target, const PackId& id, Damages& damages, bool all = false) {
    return PackReader::open(target, sample_uuid(), PackKind::kData, id, damages.sink(), all);
}

// The parts of a pack that have a second copy, or nothing in them: all but the segments.
std::vector<std::size_t> redundant_offsets(const MemoryTarget& target, const std::string& name, std::uint64_t data_end) {
    std::vector<std::size_t> offsets(kPackAlignment);
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        offsets[i] = i;
    }
    for (std::size_t i = data_end; i < target.objects.at(name).size(); ++i) {
        offsets.push_back(i);
    }
    return offsets;
}

TEST(PackIndex, ReservedSegmentsGetTheirChecksumsLater) {
    PackIndex index(PackKind::kData, sample_pack(1), 0);
    const std::uint32_t first = index.reserve({4096, 0, 100'000, 100'000, Codec::kNone});
    const std::uint32_t second = index.reserve({4096 + 102'400, 0, 10, 10, Codec::kNone});
    const Checksum a{1, 2}, b{3, 4}, c{5, 6};
    index.set_blocks(second, std::vector{c});
    index.set_blocks(first, std::vector{a, b});
    EXPECT_EQ(first, 0U);
    EXPECT_EQ(second, 1U);
    EXPECT_EQ(std::vector(index.blocks(0).begin(), index.blocks(0).end()), (std::vector{a, b}));
    EXPECT_EQ(index.blocks(1).front(), c);
    EXPECT_THROW(index.set_blocks(second, std::vector{a, b}), Error);
}

TEST(PackIndex, RefusesWhatCouldNotBeRead) {
    PackIndex index(PackKind::kData, sample_pack(1), 0);
    EXPECT_THROW(index.reserve({0, 0, 10, 10, Codec::kNone}), Error) << "inside the head";
    EXPECT_THROW(index.reserve({4096, 0, 0, 0, Codec::kNone}), Error);
    EXPECT_THROW(index.reserve({4096, 0, kSegmentLimit + 1, kSegmentLimit + 1, Codec::kNone}), Error);
    EXPECT_THROW(index.reserve({4096, 0, 5, 10, Codec::kNone}), Error);
    index.reserve({8192, 0, 10, 10, Codec::kNone});
    EXPECT_THROW(index.reserve({8192, 0, 10, 10, Codec::kNone}), Error) << "overlap";
}

TEST(Pack, FooterTellsOffsetsLengthsAndChecksums) {
    MemoryTarget target;
    put_data_pack(target, sample_pack(1), 3, 70'000);
    Damages damages;
    const auto pack = open(target, sample_pack(1), damages, true);
    EXPECT_TRUE(damages.list.empty());
    ASSERT_EQ(pack->index().size(), 3U);
    for (std::uint32_t i = 0; i < 3; ++i) {
        const Segment& segment = pack->index().segment(i);
        Bytes bytes(segment.stored_length);
        pack->read_stored(bytes, segment.offset);
        EXPECT_EQ(bytes, Bytes(70'000, static_cast<std::byte>(i + 1)));
        const auto blocks = pack->index().blocks(i);
        ASSERT_EQ(blocks.size(), 2U);
        EXPECT_EQ(Hasher(kSampleSeed)(std::span(bytes).first(kChecksumBlock)), blocks[0]);
        EXPECT_EQ(Hasher(kSampleSeed)(std::span(bytes).subspan(kChecksumBlock)), blocks[1]);
    }
}

TEST(Pack, LargeFootersAreCompressedAndReadFromOutsideTheTail) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 20'000, 16);
    Damages damages;
    const auto pack = open(target, sample_pack(1), damages, true);
    EXPECT_TRUE(damages.list.empty());
    EXPECT_EQ(pack->index().size(), 20'000U);
    EXPECT_EQ(pack->index().segment(19'999).offset, 4096 * 20'000ULL);
    EXPECT_LT(target.objects[name].size() - 4096 * 20'001ULL, 2 * 20'000 * 24ULL) << "16 bytes of checksum each, and little else";
}

TEST(Pack, DroppedSegmentsKeepTheirNumbers) {
    PackIndex index(PackKind::kData, sample_pack(1), 1);
    const Checksum sum{7, 8};
    index.add({4096, 0, 10, 10, Codec::kNone}, std::span(&sum, 1));
    index.add({8192, 0, 200'000, 200'000, Codec::kNone}, std::vector<Checksum>(4));
    index.add({4096 * 100, 0, 10, 10, Codec::kNone}, std::span(&sum, 1));
    index.drop(1);
    Bytes object(4096 * 101);
    const Bytes tail = pack_tail(sample_uuid(), index, object.size());
    object.insert(object.end(), tail.begin(), tail.end());
    MemoryTarget target;
    target.objects[layout::pack({PackKind::kData, sample_pack(1), 1})] = object;
    Damages damages;
    const auto pack = open(target, sample_pack(1), damages);
    ASSERT_EQ(pack->index().size(), 3U);
    EXPECT_EQ(pack->index().segment(1).plain_length, 0U);
    EXPECT_TRUE(pack->index().blocks(1).empty());
    EXPECT_EQ(pack->index().blocks(2).front(), sum);
}

// As a compaction leaves them, also where it left nothing.
TEST(Pack, ManyDroppedNumbersTakeNoPlace) {
    const Checksum sum{7, 8};
    for (const auto kind : {PackKind::kData, PackKind::kNodes}) {
        for (const bool all_dropped : {false, true}) {
            PackIndex index(kind, sample_pack(1), 1);
            std::uint64_t end = kPackAlignment;
            for (std::uint32_t number = 0; number < 1000; ++number) {
                const bool dropped = all_dropped || number % 3 != 0;
                const std::uint64_t second = kind == PackKind::kNodes ? end + 4'096'000 : 0;
                index.add(dropped ? Segment{} : Segment{end, second, 10, 20, Codec::kZstd}, std::span(&sum, dropped ? 0 : 1), sum);
                end += dropped ? 0 : kPackAlignment;
            }
            Bytes object(8'192'000);
            const Bytes tail = pack_tail(sample_uuid(), index, object.size());
            object.insert(object.end(), tail.begin(), tail.end());
            MemoryTarget target;
            target.objects[layout::pack({kind, sample_pack(1), 1})] = object;
            Damages damages;
            const auto pack = PackReader::open(target, sample_uuid(), kind, sample_pack(1), damages.sink());
            ASSERT_EQ(pack->index().size(), 1000U);
            for (std::uint32_t number = 0; number < 1000; ++number) {
                EXPECT_EQ(pack->index().segment(number), index.segment(number));
                EXPECT_EQ(pack->index().stored_checksum(number), pack->index().segment(number).plain_length == 0 ? Checksum{} : sum);
            }
        }
    }
}

TEST(Pack, AnyFlippedBitOutsideOfTheDataIsReportedAndCostsNothing) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 2, 4096);
    const std::uint64_t data_end = 3 * 4096;
    const Bytes sound = target.objects[name];
    Random random;
    for (const std::size_t offset : redundant_offsets(target, name, data_end)) {
        // Every byte, and every bit of those that aren't padding.
        const bool padding = sound[offset] == std::byte{0} && offset % 4096 > 1024;
        for (int bit = padding ? static_cast<int>(random.below(8)) : 0; bit < 8; bit += padding ? 8 : 1) {
            target.objects[name][offset] ^= static_cast<std::byte>(1 << bit);
            Damages damages;
            const auto pack = open(target, sample_pack(1), damages, true);
            ASSERT_EQ(pack->index().size(), 2U) << offset;
            ASSERT_EQ(damages.list.size(), 1U) << offset << " bit " << bit;
            ASSERT_TRUE(damages.list[0].healed);
            ASSERT_EQ(damages.list[0].object, name);
            target.objects[name][offset] = sound[offset];
        }
    }
}

TEST(Pack, EachDamagedPartIsReportedSeparately) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 2, 4096);
    Bytes& object = target.objects[name];
    for (const std::size_t offset : {std::size_t{40}, std::size_t{3 * 4096 + 200}, object.size() - 8192 + 20}) {
        object[offset] ^= std::byte{0x10};
    }
    Damages damages;
    open(target, sample_pack(1), damages, true);
    std::vector<std::string> what;
    for (const Damage& damage : damages.list) {
        EXPECT_TRUE(damage.healed);
        what.push_back(damage.what);
    }
    EXPECT_EQ(what, (std::vector<std::string>{"trailer, first copy: header checksum mismatch", "footer, first copy: checksum mismatch",
                                              "head: header checksum mismatch"}));
}

TEST(Pack, OneUnreadableSectorAnywhereOutsideOfTheDataCostsNothing) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 2000, 16);
    for (std::uint64_t block = 0; block < target.objects[name].size(); block += 4096) {
        if (block != 0 && block <= 2000 * 4096) {
            continue;
        }
        target.bad_sectors = {{name, block}};
        Damages damages;
        ASSERT_EQ(open(target, sample_pack(1), damages, true)->index().size(), 2000U) << block;
        ASSERT_GE(damages.list.size(), 1U);
        ASSERT_EQ(open(target, sample_pack(1), damages)->index().size(), 2000U) << block;
    }
}

TEST(Pack, BothCopiesDamagedIsAnError) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 2, 4096);
    const Bytes sound = target.objects[name];
    const std::size_t footer = 3 * 4096;
    const std::size_t trailer = sound.size() - 8192;
    for (const auto& [first, second] : {std::pair{footer + 150, footer + 4096 + 10}, std::pair{trailer + 150, trailer + 4096 + 10}}) {
        target.objects[name][first] ^= std::byte{1};
        target.objects[name][second] ^= std::byte{1};
        Damages damages;
        try {
            open(target, sample_pack(1), damages);
            FAIL() << first;
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kDamaged);
            ASSERT_FALSE(damages.list.empty());
            EXPECT_FALSE(damages.list[0].healed);
        }
        target.objects[name] = sound;
    }
}

TEST(Pack, AnyTruncationIsAnError) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 2, 4096);
    const Bytes sound = target.objects[name];
    for (std::size_t length = 0; length < sound.size(); length += length % 4096 < 200 ? 1 : 97) {
        target.objects[name].assign(sound.begin(), sound.begin() + static_cast<std::ptrdiff_t>(length));
        Damages damages;
        EXPECT_THROW(open(target, sample_pack(1), damages), Error) << length;
    }
}

TEST(Pack, MissingIsAnErrorThatSaysSo) {
    MemoryTarget target;
    Damages damages;
    try {
        open(target, sample_pack(1), damages);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kDamaged);
        EXPECT_NE(error.message().find("missing"), std::string::npos);
        EXPECT_NE(error.message().find(sample_pack(1).hex()), std::string::npos);
    }
}

TEST(Pack, TheHighestValidGenerationCounts) {
    MemoryTarget target;
    const auto first = put_data_pack(target, sample_pack(1), 1, 16, 0);
    const auto second = put_data_pack(target, sample_pack(1), 1, 16, 1);
    Damages damages;
    EXPECT_EQ(open(target, sample_pack(1), damages)->object(), second);

    target.objects[second].resize(4096);
    EXPECT_EQ(open(target, sample_pack(1), damages)->object(), first);
    EXPECT_TRUE(damages.list.at(0).healed);

    target.objects.clear();
    put_data_pack(target, sample_pack(1), 1, 16, 9);
    put_data_pack(target, sample_pack(1), 1, 16, 12);
    const auto highest = put_data_pack(target, sample_pack(1), 1, 16, 100);
    put_data_pack(target, sample_pack(2), 1, 16, 200);
    EXPECT_EQ(open(target, sample_pack(1), damages)->object(), highest);
}

// Many packs may lie in a folder: it isn't listed for each that was rewritten once or twice.
TEST(Pack, ALowGenerationIsFoundWithoutListing) {
    class Unlisted : public MemoryTarget {
    public:
        void list(std::string_view, const std::function<void(const ObjectEntry&)>&) override { throw std::logic_error("listed"); }
    };
    for (const std::uint32_t generation : {1U, 2U, 3U}) {
        Unlisted target;
        put_data_pack(target, sample_pack(1), 1, 16, generation);
        const auto newest = put_data_pack(target, sample_pack(1), 1, 16, generation + 1);
        Damages damages;
        EXPECT_EQ(open(target, sample_pack(1), damages)->object(), newest);
    }
}

TEST(Pack, OneUnderAnothersNameIsRefused) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 1, 16);
    target.objects[layout::pack({PackKind::kData, sample_pack(2), 0})] = target.objects[name];
    target.objects[layout::pack({PackKind::kNodes, sample_pack(1), 0})] = target.objects[name];
    Damages damages;
    EXPECT_THROW(open(target, sample_pack(2), damages), Error);
    EXPECT_THROW(PackReader::open(target, sample_uuid(), PackKind::kNodes, sample_pack(1), damages.sink()), Error);
    EXPECT_THROW(PackReader::open(target, Uuid{}, PackKind::kData, sample_pack(1), damages.sink()), Error);
}

// Rewrites both trailers of a pack with other flags.
void set_features(Bytes& object, const PackId& id, std::uint64_t incompat, std::uint64_t read_only_compat) {
    const auto trailers = std::span(object).last<2 * kTrailerBytes>();
    auto trailer = parse_trailer(trailers, sample_uuid(), PackKind::kData, id, 0, object.size()).value.value();
    trailer.header.incompat = incompat;
    trailer.header.read_only_compat = read_only_compat;
    encode_trailer(trailer, ObjectKind::kDataPack, trailers.first<kTrailerBytes>());
    encode_trailer(trailer, ObjectKind::kDataPack, trailers.last<kTrailerBytes>());
}

TEST(Pack, FeaturesOfANewerVersionAreRespected) {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 1, 16);
    Damages damages;
    EXPECT_TRUE(open(target, sample_pack(1), damages)->may_rewrite());
    set_features(target.objects[name], sample_pack(1), 0, 2);
    EXPECT_FALSE(open(target, sample_pack(1), damages)->may_rewrite());
    set_features(target.objects[name], sample_pack(1), 1, 0);
    try {
        open(target, sample_pack(1), damages);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kRefused);
    }
}

TEST(PackCache, ReturnsTheSamePackAndStaysWithinItsBudget) {
    constexpr std::size_t kMost = 64;
    MemoryTarget target;
    for (std::uint32_t i = 0; i < 2 * kMost; ++i) {
        put_data_pack(target, sample_pack(i), 1, 16);
    }
    PackCache cache(target, sample_uuid(), nullptr, {.packs = kMost});
    const auto first = cache.get(PackKind::kData, sample_pack(0));
    EXPECT_EQ(cache.get(PackKind::kData, sample_pack(0)), first);
    std::vector<std::weak_ptr<const PackReader>> opened;
    for (std::uint32_t i = 0; i < 2 * kMost; ++i) {
        opened.push_back(cache.get(PackKind::kData, sample_pack(i)));
    }
    const auto open_count = std::count_if(opened.begin(), opened.end(), [](const auto& pack) { return !pack.expired(); });
    EXPECT_LE(open_count, static_cast<std::ptrdiff_t>(kMost) + 1);
    EXPECT_GE(open_count, static_cast<std::ptrdiff_t>(kMost));
}

TEST(PackCache, ReopenFindsTheNextGeneration) {
    MemoryTarget target;
    const auto old = put_data_pack(target, sample_pack(1), 1, 16);
    PackCache cache(target, sample_uuid(), nullptr);
    cache.get(PackKind::kData, sample_pack(1));
    const auto next = put_data_pack(target, sample_pack(1), 1, 16, 1);
    target.objects.erase(old);
    EXPECT_EQ(cache.get(PackKind::kData, sample_pack(1))->object(), old);
    EXPECT_EQ(cache.reopen(PackKind::kData, sample_pack(1))->object(), next);
    EXPECT_EQ(cache.get(PackKind::kData, sample_pack(1))->object(), next);
}

}  // namespace
}  // namespace nodesnap::test
