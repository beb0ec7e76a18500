// Checksum and Hasher: XXH3-128 over a byte range, seeded per repository. Finds accidents, not tampering.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace nodesnap {

struct Checksum {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    auto operator<=>(const Checksum&) const = default;
    std::string hex() const;  // 32 digits, high half first
};

// Hasher(0) gives plain checksums. Immutable and shareable between threads.
class Hasher {
public:
    explicit Hasher(std::uint64_t seed = 0);
    Checksum operator()(std::span<const std::byte> data) const noexcept;
    std::uint64_t seed() const noexcept { return seed_; }

private:
    static constexpr std::size_t kSecretBytes = 192;
    std::uint64_t seed_;
    std::array<std::byte, kSecretBytes> secret_;
};

}  // namespace nodesnap
