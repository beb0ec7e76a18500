// The header that every binary object starts with, and the outer part that stands before what a cipher may cover. See docs/format.md,
// "Object header" and "Inner parts". Pure functions on bytes; nothing here believes a length before it has checked it.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "io/checksum.h"
#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

static_assert(std::endian::native == std::endian::little, "stored integers are read and written in place");

template <typename T>
T load_little_endian(std::span<const std::byte> bytes, std::size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return value;
}
template <typename T>
void store_little_endian(std::span<std::byte> bytes, std::size_t offset, T value) {
    std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

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
    kChecks = four_letters("CHKS"),
