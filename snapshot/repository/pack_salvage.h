// Reading what may lie on a bad sector.
#pragma once

#include <cstdint>
#include <span>

#include "io/target/target.h"

namespace nodesnap {

// Reads into.size() bytes at `offset`. Where the device can't read all of it, every block of 4096 that it can is read, and the others
// are left zero: the checksums of what is stored there then tell what was lost. Other errors than a device's (EIO and its like) are thrown.
void salvaging_read(ObjectReader& reader, std::span<std::byte> into, std::uint64_t offset);
// Whether the error is one that a bad sector causes.
bool is_media_error(int error_number);

}  // namespace nodesnap
