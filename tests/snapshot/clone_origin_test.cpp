// What a clone says of what it is a clone of.
#include "snapshot/backend/clone_origin.h"

#include <gtest/gtest.h>

#include "platform/error.h"

namespace nodesnap {
namespace {

CloneOrigin sample() {
    CloneOrigin origin;
    origin.ino = 0x1122334455667788;
    origin.generation = 0xfedcba98;
    origin.links = 3;
    origin.flags = 0x10;
    origin.accessed = {-5, 999'999'999};
    origin.changed = {1'700'000'000, 1};
    origin.born = {0, 0};
    origin.unwritten = {{0, 4096}, {4096, 1}, {std::uint64_t{1} << 40, 1 << 20}};
    return origin;
}

TEST(CloneOrigin, ComesBackAsItWas) {
    EXPECT_EQ(decode_clone_origin(encode(sample()), "x"), sample());
    EXPECT_EQ(decode_clone_origin(encode(CloneOrigin{}), "x"), CloneOrigin{});
}

TEST(CloneOrigin, AsManyUnwrittenRangesAsAreRecordedFitOnEachFileSystem) {
    CloneOrigin origin = sample();
    origin.unwritten.clear();
    for (std::size_t i = 0; i < CloneOrigin::kUnwrittenLimit; ++i) {
        origin.unwritten.push_back({i * 8192, 4096});
    }
    EXPECT_LT(encode(origin).size(), 3800U);  // an attribute of btrfs with nodes of 4 KiB
}

TEST(CloneOrigin, NothingElseIsTakenForOne) {
    const Bytes good = encode(sample());
    const auto is_taken = [](const Bytes& value) {
        try {
            decode_clone_origin(value, "x");
            return true;
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kFailed) << "damaged is what is stored in a repository";
            return false;
        }
    };
    const std::size_t ranges = sample().unwritten.size();
    for (std::size_t length = 0; length < good.size(); ++length) {
        const bool whole_ranges = (good.size() - length) % 16 == 0 && (good.size() - length) / 16 <= ranges;
        EXPECT_EQ(is_taken({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)}), whole_ranges) << length;
    }
    Bytes other_version = good;
    other_version[0] = std::byte{2};
    EXPECT_FALSE(is_taken(other_version));
    CloneOrigin backwards = sample();
    std::swap(backwards.unwritten[0], backwards.unwritten[1]);
    EXPECT_FALSE(is_taken(encode(backwards)));
    CloneOrigin endless = sample();
    endless.unwritten = {{5, ~std::uint64_t{0}}};
    EXPECT_FALSE(is_taken(encode(endless)));
    CloneOrigin empty = sample();
    empty.unwritten = {{5, 0}};
    EXPECT_FALSE(is_taken(encode(empty)));
}

}  // namespace
}  // namespace nodesnap
