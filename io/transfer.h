// Whole reads and writes over a ring: the loops around short results, in one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "io/ring.h"
#include "io/task.h"
#include "io/throttle.h"

namespace nodesnap {

// Fills `into` from `offset` on. Returns the bytes read, fewer than into.size() only at the end of the file, or a negative errno. A short
// read is the end of the file only when the next one reads nothing, which costs an operation: give `file_size` where it is known, then a
// read that reaches it ends without asking. Works for O_DIRECT (address, length and offset at multiples of 4096) and for buffered
// descriptors.
Task<std::int64_t> read_full(Ring& ring, int fd, std::span<std::byte> into, std::uint64_t offset,
                             std::uint64_t file_size = std::numeric_limits<std::uint64_t>::max());

// Writes all of `from` at `offset`. Returns from.size() or a negative errno; a write that makes no progress is an EIO.
Task<std::int64_t> write_full(Ring& ring, int fd, std::span<const std::byte> from, std::uint64_t offset);

// Waits for the turn of `bytes` under the cap. An interrupt is seen within a second (throws Error::failed).
Task<void> pace(Ring& ring, Throttle& throttle, std::uint64_t bytes);

}  // namespace nodesnap
