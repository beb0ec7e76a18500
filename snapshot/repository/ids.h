// Identifiers that are stored: UUIDs, session ids, pack ids, and the reference (pack, number) that names a segment or a node.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nodesnap {

std::string two_digits(unsigned byte);  // hexadecimal

struct Uuid {
    std::array<std::uint8_t, 16> bytes{};
    auto operator<=>(const Uuid&) const = default;
    bool is_null() const noexcept { return *this == Uuid{}; }
    std::string text() const;  // 8-4-4-4-12
    static Uuid random();      // version 4
    static std::optional<Uuid> parse(std::string_view text);
};

// Names one run of `backup`, and so the backup itself.
struct SessionId {
    std::array<std::uint8_t, 11> bytes{};
    auto operator<=>(const SessionId&) const = default;
    std::string hex() const;  // 22 digits
    static SessionId random();
    static std::optional<SessionId> parse(std::string_view hex);
};

struct PackId {
    std::array<std::uint8_t, 16> bytes{};
    auto operator<=>(const PackId&) const = default;
    std::string hex() const;  // 32 digits
    SessionId session() const noexcept;
    std::uint32_t counter() const noexcept;
    static PackId of(const SessionId& session, std::uint32_t counter) noexcept;
    static std::optional<PackId> parse(std::string_view hex);
};

struct PackIdHash {
    std::size_t operator()(const PackId& id) const noexcept;
};

// One segment of a data pack, or one node of a metadata pack.
struct SegmentRef {
    PackId pack;
    std::uint32_t number = 0;
    auto operator<=>(const SegmentRef&) const = default;
};

}  // namespace nodesnap
