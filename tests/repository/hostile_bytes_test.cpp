// What the fuzzers do, in every build: each parser gets every truncation, every flipped bit and random mutations of valid objects.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/parsers.h"
#include "tests/fuzz/seeds.h"

namespace nodesnap::test {
namespace {

class HostileBytes : public ::testing::TestWithParam<Parser> {};

// Objects of several KiB are mostly padding: all of their bytes are tried, but not all in all ways.
std::size_t step_for(const Bytes& bytes) {
    return bytes.size() > 8192 ? 7 : 1;
}

TEST_P(HostileBytes, EveryTruncationIsTakenOrRefused) {
    for (const Seed& seed : seeds_of(GetParam().name)) {
        for (std::size_t length = 0; length <= seed.bytes.size(); length += step_for(seed.bytes)) {
            EXPECT_NO_THROW(GetParam().run(std::span(seed.bytes).first(length))) << seed.name << " cut at " << length;
        }
    }
}

TEST_P(HostileBytes, EveryFlippedBitIsTakenOrRefused) {
    for (const Seed& seed : seeds_of(GetParam().name)) {
        Bytes bytes = seed.bytes;
        for (std::size_t bit = 0; bit < bytes.size() * 8; bit += step_for(seed.bytes)) {
            bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
            EXPECT_NO_THROW(GetParam().run(bytes)) << seed.name << " bit " << bit;
            bytes[bit / 8] = seed.bytes[bit / 8];
        }
    }
}

void mutate(Bytes& bytes, Random& random) {
    constexpr std::uint32_t kExtremes[] = {0, 1, 0x7f, 0xff, 0xffff, 0x10000, 0x7fff'ffff, 0x8000'0000, 0xffff'ffff};
    const std::size_t at = random.below(bytes.size());
    switch (random.below(5)) {
        case 0:
            bytes[at] = static_cast<std::byte>(random.any());
            break;
        case 1: {
            const std::uint32_t extreme = kExtremes[random.below(std::size(kExtremes))];
            std::memcpy(bytes.data() + at, &extreme, std::min(sizeof(extreme), bytes.size() - at));
            break;
        }
        case 2:
            bytes.resize(1 + at);
            break;
        case 3:
            bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), random.below(20), static_cast<std::byte>(random.any()));
            break;
        default: {
            const std::size_t from = random.below(bytes.size());
            const std::size_t length = random.below(std::min<std::size_t>(32, bytes.size() - std::max(at, from)) + 1);
            std::memmove(bytes.data() + at, bytes.data() + from, length);
        }
    }
}

TEST_P(HostileBytes, RandomMutationsAreTakenOrRefused) {
    Random random;
    const auto seeds = seeds_of(GetParam().name);
    for (int i = 0; i < 20'000; ++i) {
        Bytes bytes = seeds[random.below(seeds.size())].bytes;
        for (std::uint64_t n = 1 + random.below(4); n > 0 && !bytes.empty(); --n) {
            mutate(bytes, random);
        }
        ASSERT_NO_THROW(GetParam().run(bytes)) << "mutation " << i;
    }
}

TEST_P(HostileBytes, CorpusHoldsTheValidObjects) {
    const auto folder = std::filesystem::path(NODESNAP_SOURCE_DIR) / "tests/fuzz/corpus" / GetParam().name;
    for (const Seed& seed : seeds_of(GetParam().name)) {
        const auto path = folder / seed.name;
        if (std::getenv("NODESNAP_WRITE_CORPUS") != nullptr) {
            std::filesystem::create_directories(folder);
            std::ofstream(path, std::ios::binary)
                .write(reinterpret_cast<const char*>(seed.bytes.data()), static_cast<std::streamsize>(seed.bytes.size()));
        }
        std::ifstream file(path, std::ios::binary);
        const std::string stored((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
        EXPECT_EQ(to_bytes(stored), seed.bytes) << path << " isn't up to date: run this test with NODESNAP_WRITE_CORPUS=1";
    }
}

INSTANTIATE_TEST_SUITE_P(Parsers, HostileBytes, ::testing::ValuesIn(kParsers),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace nodesnap::test
