// How long after its snapshot a backup that was cut off can be gone on with.
#pragma once

#include <cstdint>

namespace nodesnap {

inline constexpr std::int64_t kResumableSeconds = 30LL * 24 * 3600;

}  // namespace nodesnap
