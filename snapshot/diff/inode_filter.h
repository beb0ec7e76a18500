// InodeFilter: a set of inode numbers in a fixed amount of memory, which may answer yes for a number that was never added (a Bloom filter).
// Up to five million numbers less than one in a hundred of the others do.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nodesnap {

class InodeFilter {
public:
    InodeFilter() : words_(kWords) {}
    void add(std::uint64_t ino) {
        for (const std::uint64_t bit : bits_of(ino)) {
            words_[bit / 64] |= std::uint64_t{1} << bit % 64;
        }
    }
    bool may_hold(std::uint64_t ino) const {
        const auto bits = bits_of(ino);
        return std::all_of(bits.begin(), bits.end(), [this](std::uint64_t bit) { return (words_[bit / 64] >> bit % 64 & 1U) != 0; });
    }

private:
    static constexpr std::size_t kWords = 1U << 20;  // 8 MiB, 64 Mi bits
    static constexpr std::size_t kProbes = 4;

    static std::array<std::uint64_t, kProbes> bits_of(std::uint64_t ino) {
        // splitmix64, so that neighbours lie far apart.
        std::uint64_t hash = ino + 0x9e37'79b9'7f4a'7c15;
        hash = (hash ^ hash >> 30) * 0xbf58'476d'1ce4'e5b9;
        hash = (hash ^ hash >> 27) * 0x94d0'49bb'1331'11eb;
        hash ^= hash >> 31;
        const std::uint64_t step = hash >> 32 | 1;
        std::array<std::uint64_t, kProbes> bits{};
        for (std::uint64_t& bit : bits) {
            bit = hash % (kWords * 64);
            hash += step;
        }
        return bits;
    }

    std::vector<std::uint64_t> words_;
};

}  // namespace nodesnap
