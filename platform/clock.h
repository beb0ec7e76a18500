// Clocks, in nanoseconds.
#pragma once

#include <cstdint>

namespace nodesnap {

std::int64_t utc_now_ns();  // since 1970; may jump
// Waits for the clock that file systems take their stamps from to tick (10 ms at most), and returns its time: what was changed before the
// call has an earlier stamp, what is changed after it hasn't.
std::int64_t next_stamp_ns();
std::int64_t monotonic_ns();  // never goes back; stands still while suspended
std::int64_t boot_time_ns();  // never goes back; counts suspended time too

}  // namespace nodesnap
