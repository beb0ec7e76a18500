// The records of when packs were checked: what is written is read again, what isn't one is taken for nothing known.
#include "snapshot/repository/check_record.h"

#include <gtest/gtest.h>

#include <limits>

#include "snapshot/repository/layout.h"
#include "snapshot/repository/object_header.h"

namespace nodesnap {
namespace {

constexpr std::uint8_t kByte = 0xa7;
constexpr std::int64_t kNow = 1'800'000'000;

Uuid uuid(std::uint8_t last) {
    Uuid uuid;
    uuid.bytes[15] = last;
    return uuid;
}

PackId pack(std::uint8_t last, std::uint8_t first = kByte) {
    PackId id;
    id.bytes[0] = first;
    id.bytes[15] = last;
    return id;
}

const std::vector<PackCheckup> kCheckups = {{pack(1), 0, false, kNow}, {pack(2), 3, true, -5}, {pack(9), 4'000'000'000U, false, kNow + 7}};

// What is read of the record when its header is changed and sealed again.
template <typename Change>
CheckRecord with_header(Change change) {
    Bytes object = encode_check_record(uuid(1), kByte, kCheckups);
    ObjectHeader header = *parse_object_header(object).value;
    change(header);
    const std::span<std::byte> bytes = object;
    encode_object_header(header, bytes.first<kHeaderBytes>());
    return parse_check_record(object, uuid(1), kByte);
}

TEST(CheckRecord, IsNamedByTheFirstByteOfItsPacks) {
    EXPECT_EQ(layout::checks(0), "checks/00");
    EXPECT_EQ(layout::checks(kByte), "checks/a7");
}

TEST(CheckRecord, WhatIsWrittenIsRead) {
    const CheckRecord record = parse_check_record(encode_check_record(uuid(1), kByte, kCheckups), uuid(1), kByte);
    EXPECT_EQ(record.flaw, "");
    EXPECT_TRUE(record.replaceable);
    EXPECT_EQ(record.checkups, kCheckups);
    ASSERT_NE(record.find(pack(2)), nullptr);
    EXPECT_EQ(*record.find(pack(2)), kCheckups[1]);
    EXPECT_EQ(record.find(pack(3)), nullptr);
}

TEST(CheckRecord, OfAnotherRepositoryOrOtherPacksIsNone) {
    const Bytes object = encode_check_record(uuid(1), kByte, kCheckups);
    for (const CheckRecord& record : {parse_check_record(object, uuid(2), kByte), parse_check_record(object, uuid(1), 0xa8)}) {
        EXPECT_NE(record.flaw, "");
        EXPECT_TRUE(record.checkups.empty());
        EXPECT_TRUE(record.replaceable);
    }
}

TEST(CheckRecord, EntriesThatCanNotBeRightAreNone) {
    const std::vector<std::vector<PackCheckup>> wrong = {
        {{pack(2), 0, false, 1}, {pack(1), 0, false, 1}},
        {{pack(1), 0, false, 1}, {pack(1), 1, false, 1}},
        {{pack(1, 0x11), 0, false, 1}},
        {{pack(1), 0, false, std::numeric_limits<std::int64_t>::min()}},
        {{pack(1), 0, false, std::numeric_limits<std::int64_t>::max()}},
    };
    for (const auto& checkups : wrong) {
        const CheckRecord record = parse_check_record(encode_check_record(uuid(1), kByte, checkups), uuid(1), kByte);
        EXPECT_NE(record.flaw, "");
        EXPECT_TRUE(record.checkups.empty());
    }
}

TEST(CheckRecord, ANewerVersionsIsLeftAlone) {
    const CheckRecord incompatible = with_header([](ObjectHeader& header) { header.incompat = 1; });
    EXPECT_TRUE(incompatible.checkups.empty());
    EXPECT_FALSE(incompatible.replaceable);
    const CheckRecord readable = with_header([](ObjectHeader& header) { header.read_only_compat = 1; });
    EXPECT_EQ(readable.checkups, kCheckups);
    EXPECT_FALSE(readable.replaceable);
    const CheckRecord compatible = with_header([](ObjectHeader& header) { header.compat = 1; });
    EXPECT_EQ(compatible.checkups, kCheckups);
    EXPECT_TRUE(compatible.replaceable);
}

TEST(CheckRecord, MergingTakesTheLaterOfTwoRuns) {
    const std::vector<PackId> existing = {pack(1), pack(2), pack(3), pack(4)};
    const std::vector<PackCheckup> record = {
        {pack(1), 0, false, 100}, {pack(2), 0, false, 300}, {pack(3), 0, true, 300}, {pack(4), 0, false, 50}};
    const std::vector<PackCheckup> fresh = {{pack(1), 0, true, 200}, {pack(2), 0, false, 200}, {pack(3), 1, false, 200}};
    const std::vector<PackCheckup> merged = {
        {pack(1), 0, true, 200}, {pack(2), 0, false, 300}, {pack(3), 1, false, 200}, {pack(4), 0, false, 50}};
    EXPECT_EQ(merge_checkups(record, fresh, existing, 400), merged);
}

TEST(CheckRecord, MergingReplacesATimeThatIsYetToCome) {
    const std::vector<PackCheckup> fresh = {{pack(1), 0, false, 200}};
    EXPECT_EQ(merge_checkups({{pack(1), 0, false, 500}}, fresh, {pack(1)}, 400), fresh);
}

TEST(CheckRecord, MergingDropsPacksThatAreGoneButNotThoseJustRead) {
    const std::vector<PackCheckup> record = {{pack(1), 0, false, 100}, {pack(5), 0, false, 100}, {pack(7), 0, false, 100}};
    const std::vector<PackCheckup> fresh = {{pack(4), 0, false, 200}};
    const std::vector<PackCheckup> merged = {{pack(4), 0, false, 200}, {pack(5), 0, false, 100}};
    EXPECT_EQ(merge_checkups(record, fresh, {pack(5)}, 400), merged);
}

}  // namespace
}  // namespace nodesnap
