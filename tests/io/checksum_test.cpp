#include "io/checksum.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <string_view>
#include <vector>

namespace nodesnap::test {
namespace {

std::vector<std::byte> pattern(std::size_t bytes) {
    std::vector<std::byte> data(bytes);
    std::uint32_t state = 12345;
    for (std::byte& byte : data) {
        state = state * 1664525 + 1013904223;
        byte = static_cast<std::byte>(state >> 24);
    }
    return data;
}

// The published function with a seed, over lengths around each of its internal limits.
TEST(ChecksumTest, EqualsXxh3With128BitsAndTheSeed) {
    const std::vector<std::byte> data = pattern(1 << 20);
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x9e3779b97f4a7c15}, ~std::uint64_t{0}}) {
        const Hasher hasher(seed);
        for (const std::size_t size :
             {0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 239, 240, 241, 255, 256, 1023, 1024, 1025, 4096, 65535, 65536, 1 << 20}) {
            const XXH128_hash_t expected = XXH3_128bits_withSeed(data.data(), size, seed);
            const Checksum got = hasher(std::span(data).first(size));
            EXPECT_EQ(got.low, expected.low64) << size << " bytes, seed " << seed;
            EXPECT_EQ(got.high, expected.high64) << size << " bytes, seed " << seed;
        }
    }
}

TEST(ChecksumTest, DoesNotDependOnTheAlignment) {
    const std::vector<std::byte> data = pattern(70'000);
    const Hasher hasher(7);
    for (std::size_t shift = 0; shift < 64; ++shift) {
        std::vector<std::byte> moved(data.size() + shift);
        std::copy(data.begin(), data.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
        EXPECT_EQ(hasher(std::span(moved).subspan(shift)), hasher(data)) << shift;
    }
}

// Stored repositories rest on these values.
TEST(ChecksumTest, HasKnownValues) {
    EXPECT_EQ(Hasher(0)({}).hex(), "99aa06d3014798d86001c324468d497f");
    const std::string_view text = "nodesnap";
    EXPECT_EQ(Hasher(0)(std::as_bytes(std::span(text.data(), text.size()))).hex(), "af8807903682c82cc087bd621598db1a");
    EXPECT_EQ((Checksum{.low = 0x0123456789abcdef, .high = 0xfedcba9876543210}).hex(), "fedcba98765432100123456789abcdef");
}

TEST(ChecksumTest, EachBitCounts) {
    std::vector<std::byte> data = pattern(4096);
    const Hasher hasher(3);
    const Checksum before = hasher(data);
    for (std::size_t bit = 0; bit < data.size() * 8; bit += 61) {
        data[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        EXPECT_NE(hasher(data), before) << bit;
        data[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    }
    EXPECT_EQ(hasher(data), before);
    EXPECT_NE(Hasher(4)(data), before);
}

}  // namespace
}  // namespace nodesnap::test
