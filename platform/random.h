// Random bytes of the kernel, fit for ids and salts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nodesnap {

void random_bytes(std::span<std::byte> into);
std::uint64_t random_u64();

}  // namespace nodesnap
