// Clocks, in nanoseconds.
#pragma once

#include <cstdint>

namespace nodesnap {

std::int64_t utc_now_ns();    // since 1970; may jump
std::int64_t monotonic_ns();  // never goes back; stands still while suspended
std::int64_t boot_time_ns();  // never goes back; counts suspended time too

}  // namespace nodesnap
