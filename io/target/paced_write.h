// Writing to a target under a cap. On the ring's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "io/ring.h"
#include "io/target/target.h"
#include "io/task.h"
#include "io/throttle.h"

namespace nodesnap {

// Writes all of `data` at `offset`, in pieces of at most 1 MiB, one after the other, each when its turn under the cap has come.
Task<void> write_paced(Ring& ring, ObjectWriter& writer, std::span<const std::byte> data, std::uint64_t offset, Throttle& throttle);

}  // namespace nodesnap
