#include "snapshot/repository/records.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

template <typename T>
void expect_damaged(const T& decode) {
    try {
        decode();
        FAIL() << "was accepted";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kDamaged);
    }
}

TEST(Records, InodeComesBackAsItWas) {
    const Inode inode = sample_inode();
    EXPECT_EQ(decode_inode(encode(inode)), inode);
    EXPECT_LE(encode(inode).size(), kValueLimit);
}

TEST(Records, ExtremesOfAnInodeComeBack) {
    Inode inode;
    inode.mode = 07777;
    inode.uid = inode.gid = inode.device_major = inode.device_minor = inode.flags = inode.xattr_count =
        std::numeric_limits<std::uint32_t>::max();
    inode.size = std::numeric_limits<std::int64_t>::max();
    inode.links = inode.generation = std::numeric_limits<std::uint64_t>::max();
    inode.accessed = {std::numeric_limits<std::int64_t>::min(), 999'999'999};
    inode.born = {std::numeric_limits<std::int64_t>::max(), 0};
    inode.damaged = true;
    inode.map = NodeRef{{sample_pack(9), 65535}, 15};
    inode.run_count = 100'000'000;
    EXPECT_EQ(decode_inode(encode(inode)), inode);
}

TEST(Records, EveryTypeOfFileComesBack) {
    for (int type = 1; type <= 7; ++type) {
        Inode inode;
        inode.type = static_cast<FileType>(type);
        if (inode.type == FileType::kSymlink) {
            inode.content = Bytes(4095, std::byte{'x'});
            inode.size = 4095;
        }
        EXPECT_EQ(decode_inode(encode(inode)), inode);
        EXPECT_EQ(decode_dirent(encode(Dirent{5, inode.type})), (Dirent{5, inode.type}));
    }
}

TEST(Records, LargestInlineInodesFitAValue) {
    Inode content;
    content.content = Bytes(kInlineContentLimit, std::byte{7});
    content.size = kInlineContentLimit;
    EXPECT_EQ(decode_inode(encode(content)), content);
    Inode runs;
    runs.size = 1U << 30;
    for (std::uint32_t i = 0; i < kInlineRunLimit; ++i) {
        runs.runs.push_back({i * 10'000ULL, 4096, sample_pack(i), i, 0, 1, Run::kNone});
    }
    runs.run_count = kInlineRunLimit;
    EXPECT_EQ(decode_inode(encode(runs)), runs);
}

TEST(Records, ValuesMayLieUnaligned) {
    const Bytes value = encode(sample_inode());
    Bytes shifted(value.size() + 8);
    for (std::size_t shift = 0; shift < 8; ++shift) {
        std::copy(value.begin(), value.end(), shifted.begin() + static_cast<std::ptrdiff_t>(shift));
        EXPECT_EQ(decode_inode(std::span(shifted).subspan(shift, value.size())), sample_inode());
    }
}

TEST(Records, XattrsAndOwnersComeBack) {
    const Xattr small{to_bytes(std::string("a\0b", 3)), {}, 3};
    EXPECT_EQ(decode_xattr(encode(small)), small);
    EXPECT_EQ(decode_xattr(encode(Xattr{})), Xattr{});
    const Xattr large{{}, {{0, 65536, sample_pack(1), 3, 0, 1, Run::kNone}}, 65536};
    EXPECT_EQ(decode_xattr(encode(large)), large);
    EXPECT_EQ(decode_owner_name(encode_owner_name("qdb\xff")), "qdb\xff");
}

TEST(Records, WhatNoWriterWritesIsDamaged) {
    const auto rejects = [](auto change) {
        Inode inode = sample_inode();
        change(inode);
        const Bytes value = encode(inode);
        expect_damaged([&] { decode_inode(value); });
    };
    rejects([](Inode& inode) { inode.type = static_cast<FileType>(0); });
    rejects([](Inode& inode) { inode.type = static_cast<FileType>(8); });
    rejects([](Inode& inode) { inode.modified.nanoseconds = 1'000'000'000; });
    rejects([](Inode& inode) { inode.size = std::uint64_t{1} << 63; });
    rejects([](Inode& inode) { inode.type = FileType::kDirectory; });
    rejects([](Inode& inode) { inode.content = Bytes(5); });
    rejects([](Inode& inode) { inode.map = NodeRef{}; });
    rejects([](Inode& inode) { inode.runs[1].offset = 5; });
    rejects([](Inode& inode) { inode.runs[1].length = 0; });
    rejects([](Inode& inode) { inode.runs[2].length = std::numeric_limits<std::uint64_t>::max() - 10; });
    rejects([](Inode& inode) { inode.runs[0].count = 0; });
    rejects([](Inode& inode) { inode.runs[1].count = 4097; });
    rejects([](Inode& inode) { inode.runs[0].length = (1U << 20) + 1; });
    rejects([](Inode& inode) { inode.runs[0].first = 65536; });
    rejects([](Inode& inode) { inode.runs[1].skip = 1U << 20; });
    rejects([](Inode& inode) { inode.runs[2].flags = 4; });
    rejects([](Inode& inode) { inode.runs[2].count = 1; });
    rejects([](Inode& inode) {
        inode.runs.clear();
        inode.type = FileType::kSymlink;
        inode.content = to_bytes(std::string_view("a\0b", 3));
    });
    expect_damaged([] { decode_inode(Bytes(100)); });
    expect_damaged([] { decode_inode({}); });
    expect_damaged([] { decode_inode(Bytes(kValueLimit + 1)); });
    expect_damaged([] { decode_dirent(encode(Dirent{0, FileType::kRegular})); });
    expect_damaged([] { decode_owner_name(encode_owner_name("")); });
    expect_damaged([] { decode_xattr(encode(Xattr{{}, {{4096, 4096, sample_pack(1), 3, 0, 1, Run::kNone}}, 8192})); });
}

TEST(RecordKeys, SortAnInodeBeforeItsAttributesAndEntries) {
    const std::vector<std::string> keys = {
        key::user(0),           key::user(1000),        key::group(5), key::inode(1),   key::xattr(1, "user.a"),
        key::dirent(1, "\x01"), key::dirent(1, "\xff"), key::inode(2), key::inode(256), key::inode(0x100000000)};
    for (std::size_t i = 1; i < keys.size(); ++i) {
        EXPECT_LT(keys[i - 1], keys[i]) << i;
    }
    EXPECT_EQ(key::dirent(0x0102030405060708, "ab"), std::string("\1\2\3\4\5\6\7\x08\2ab"));
}

TEST(RecordKeys, ComeApartAgain) {
    const std::string stored = key::dirent(0xfedcba9876543210, "name\xff");
    const key::Parts parts = key::parse(stored);
    EXPECT_EQ(parts.ino, 0xfedcba9876543210);
    EXPECT_EQ(parts.kind, key::Kind::kDirent);
    EXPECT_EQ(parts.name, "name\xff");
    EXPECT_EQ(key::parse(key::inode(5)).kind, key::Kind::kInode);
    const std::string group = key::group(7);
    EXPECT_EQ(key::parse(group).name, std::string("\0\0\0\7", 4));
}

TEST(RecordKeys, NamesThatLeadElsewhereAreDamaged) {
    for (const std::string& name :
         {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a\0b", 3), std::string(256, 'a')}) {
        const std::string key = key::dirent(5, name);
        expect_damaged([&] { key::parse(key); });
    }
    const std::string zero = key::inode(0);
    expect_damaged([&] { key::parse(zero); });
    expect_damaged([] { key::parse("short"); });
    expect_damaged([] { key::parse(std::string("\0\0\0\0\0\0\0\5\3", 9)); });
    expect_damaged([] { key::parse(std::string("\0\0\0\0\0\0\0\5\x10\0\0\0\0", 13)); });
}

}  // namespace
}  // namespace nodesnap::test
