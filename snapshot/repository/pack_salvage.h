// Reading what may lie on a bad sector.
#pragma once

#include <cstdint>
#include <span>

#include "io/target/target.h"
#include "platform/error.h"

namespace nodesnap {

// Reads into.size() bytes at `offset`. Where the device can't read all of it, every block of 4096 that it can is read, and the others
// are left zero: the checksums of what is stored there then tell what was lost. Returns the errno of the first block that it couldn't, 0 if
// it could read all. Other errors than a device's (is_media_error()) are thrown.
int salvaging_read(ObjectReader& reader, std::span<std::byte> into, std::uint64_t offset);

}  // namespace nodesnap
