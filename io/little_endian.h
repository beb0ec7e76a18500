// Integers as they are stored and as they go over a connection: little-endian, at any address.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>

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

}  // namespace nodesnap
