// Sha256: a checksum (FIPS 180-4) that nobody can find another content for. Where tampering matters; XXH3 is for accidents, and faster.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace nodesnap {

class Sha256 {
public:
    void add(std::span<const std::byte> data) noexcept;
    std::string hex();  // 64 digits; nothing may be added afterwards

    static std::string of(std::span<const std::byte> data) {
        Sha256 sum;
        sum.add(data);
        return sum.hex();
    }

private:
    static constexpr std::size_t kBlock = 64;
    void take_block(const std::byte* block) noexcept;

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::byte, kBlock> pending_{};
    std::uint64_t length_ = 0;
};

}  // namespace nodesnap
