#include "snapshot/repository/pack_log.h"

#include <gtest/gtest.h>

#include <tuple>

#include "platform/error.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {
namespace {

struct Told {
    std::vector<std::pair<std::uint64_t, Inode>> inodes;
    std::vector<std::tuple<std::uint64_t, std::string, Xattr>> xattrs;
    std::vector<std::pair<std::uint64_t, Run>> runs;
};

PackLogSink telling(Told& told) {
    PackLogSink sink;
    sink.inode = [&](std::uint64_t ino, const Inode& inode) { told.inodes.emplace_back(ino, inode); };
    sink.xattr = [&](std::uint64_t ino, std::string_view name, const Xattr& xattr) { told.xattrs.emplace_back(ino, name, xattr); };
    sink.run = [&](std::uint64_t ino, const Run& run) { told.runs.emplace_back(ino, run); };
    return sink;
}

Run sample_run(std::uint64_t number) {
    return {number << 20, 4096, sample_pack(3), static_cast<std::uint32_t>(number % 1000), 8192, 1, Run::kNone};
}

TEST(PackLog, TellsWhatWasAddedInItsOrder) {
    Compressor compressor;
    PackLog log;
    constexpr std::uint64_t kFiles = 2000;  // several blocks
    for (std::uint64_t i = 1; i <= kFiles; ++i) {
        log.add(key::xattr(i, "user.name"), encode(Xattr{to_bytes("value"), {}, 5}), compressor);
        log.add(key::inode(i), encode(sample_inode()), compressor);
        log.add_run(kFiles + i, sample_run(i), compressor);
    }
    EXPECT_LT(log.memory_bytes(), 200U << 10);
    const Bytes object = log.encode(sample_uuid(), sample_pack(1), sample_pack(0), compressor);
    EXPECT_EQ(object.size() % 4096, 0U);
    Told told;
    const PackLogHead head = read_pack_log(object, "log", sample_uuid(), sample_pack(1), telling(told));
    EXPECT_FALSE(head.mark);
    EXPECT_EQ(head.before, sample_pack(0));
    ASSERT_EQ(told.inodes.size(), kFiles);
    ASSERT_EQ(told.xattrs.size(), kFiles);
    ASSERT_EQ(told.runs.size(), kFiles);
    for (std::uint64_t i = 1; i <= kFiles; ++i) {
        EXPECT_EQ(told.inodes[i - 1], std::pair(i, sample_inode()));
        EXPECT_EQ(told.xattrs[i - 1], std::tuple(i, std::string("user.name"), Xattr{to_bytes("value"), {}, 5}));
        EXPECT_EQ(told.runs[i - 1], std::pair(kFiles + i, sample_run(i)));
    }
}

TEST(PackLog, MarkHoldsNothing) {
    const Bytes mark = encode_pack_log_mark(sample_uuid(), sample_pack(1));
    EXPECT_EQ(mark.size(), kPackLogMarkBytes);
    Told told;
    EXPECT_TRUE(read_pack_log(mark, "log", sample_uuid(), sample_pack(1), telling(told)).mark);
    Compressor compressor;
    EXPECT_FALSE(
        read_pack_log(PackLog().encode(sample_uuid(), sample_pack(1), {}, compressor), "log", sample_uuid(), sample_pack(1), telling(told))
            .mark)
        << "a log without records isn't a mark";
}

TEST(PackLog, EveryFlippedByteIsDamage) {
    Compressor compressor;
    PackLog log;
    log.add_run(9, sample_run(1), compressor);
    const Bytes object = log.encode(sample_uuid(), sample_pack(1), {}, compressor);
    Told told;
    const PackLogSink sink = telling(told);
    const std::size_t length = 128 + static_cast<std::size_t>(object[48]);
    for (std::size_t at = 0; at < length; ++at) {
        Bytes damaged = object;
        damaged[at] ^= std::byte{4};
        EXPECT_THROW(read_pack_log(damaged, "log", sample_uuid(), sample_pack(1), sink), Error) << at;
    }
    EXPECT_THROW(read_pack_log(std::span(object).first(150), "log", sample_uuid(), sample_pack(1), sink), Error);
    EXPECT_THROW(read_pack_log(object, "log", sample_uuid(), sample_pack(2), sink), Error) << "another pack's log";
}

}  // namespace
}  // namespace nodesnap::test
