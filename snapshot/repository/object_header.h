// The header that every binary object starts with, and the outer part that stands before what a cipher may cover. See docs/format.md,
// "Object header" and "Inner parts". Pure functions on bytes; nothing here believes a length before it has checked it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "io/checksum.h"
#include "io/little_endian.h"
#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

constexpr std::uint32_t four_letters(const char (&text)[5]) {
    std::uint32_t code = 0;
    for (int i = 3; i >= 0; --i) {
        code = code << 8 | static_cast<unsigned char>(text[i]);
    }
    return code;
}

enum class ObjectKind : std::uint32_t {
    kDataPack = four_letters("PACK"),
    kNodePack = four_letters("NODE"),
    kManifest = four_letters("MANI"),
    kVoid = four_letters("VOID"),
    kTrailer = four_letters("TRLR"),
    kPackLog = four_letters("PLOG"),
    kChecks = four_letters("CHKS"),
    kInventory = four_letters("INVT"),
};

inline constexpr std::size_t kHeaderBytes = 128;
inline constexpr std::size_t kOuterBytes = 128;

// What this version knows; any other bit that is set in a stored object is from a newer one.
inline constexpr std::uint64_t kKnownIncompat = 0;
inline constexpr std::uint64_t kKnownReadOnlyCompat = 0;

struct ObjectHeader {
    ObjectKind kind = ObjectKind::kDataPack;
    Uuid repository;
    std::array<std::uint8_t, 16> object_id{};
    std::uint64_t payload_length = 0;
    std::uint64_t incompat = 0;
    std::uint64_t read_only_compat = 0;
    std::uint64_t compat = 0;
    std::uint32_t generation = 0;  // or revision
    Checksum payload_checksum;
    bool operator==(const ObjectHeader&) const = default;
};

// The result of parsing stored bytes: a value, or why there is none. Not an exception, since another copy often serves.
template <typename T>
struct Parsed {
    std::optional<T> value;
    std::string flaw;
    static Parsed good(T result) { return {std::move(result), {}}; }
    static Parsed bad(std::string why) { return {std::nullopt, std::move(why)}; }
    explicit operator bool() const { return value.has_value(); }
};

void encode_object_header(const ObjectHeader& header, std::span<std::byte, kHeaderBytes> into);
Parsed<ObjectHeader> parse_object_header(std::span<const std::byte> bytes);
// Error::refused for an incompat feature that this version doesn't know.
void refuse_unknown_features(const ObjectHeader& header, const std::string& object);
bool matches(const Checksum& expected, std::span<const std::byte> bytes);  // plain checksum

// Footers and manifests: the outer part followed by the inner one, which is compressed unless it is small anyway.
Bytes seal_inner_part(std::uint32_t magic, std::span<const std::byte> plain);
// The plain inner part of what starts at bytes[0]; `bytes` may be longer than it.
Parsed<Bytes> open_inner_part(std::uint32_t magic, std::span<const std::byte> bytes, std::size_t plain_limit);

template <typename T>
bool aligned(const void* place) {
    return reinterpret_cast<std::uintptr_t>(place) % alignof(T) == 0;
}

bool all_zero(std::span<const std::byte> bytes);

}  // namespace nodesnap
