// Sizes, rates, durations and times as operators write and read them. Parsers throw Error::usage with the text and what is accepted.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace nodesnap {

// "4096", "64K", "1.5G", "2TiB": K, M, G, T, P are powers of 1024.
std::uint64_t parse_size(std::string_view text);
// Bytes per second: "50M", "50M/s"; "off", "none" and "0" are 0, which means no cap.
std::uint64_t parse_rate(std::string_view text);
// "90s", "15m", "26h", "30d", "2w", "1h30m", "250ms"; a bare 0. Days have 24 hours.
std::chrono::nanoseconds parse_duration(std::string_view text);
// Nanoseconds since 1970 UTC: "2024-05-31", "2024-05-31 14:30[:05[.123]]" (UTC), RFC 3339 with "Z" or "+02:00", "now", "2h ago".
// `now` is for tests; 0 asks the clock.
std::int64_t parse_time(std::string_view text, std::int64_t now = 0);

std::string format_utc(std::int64_t nanoseconds);               // "2024-05-31T14:30:05Z"
std::string format_utc_precise(std::int64_t nanoseconds);       // with ".123456789"
std::string human_bytes(std::uint64_t bytes);                   // "1.2 GiB", "512 B"
std::string human_rate(double bytes_per_second);                // "1.2 GiB/s"
std::string human_duration(std::chrono::nanoseconds duration);  // "3.2 ms", "12.0 s", "4m 05s", "2h 03m", "5d 04h"

std::int64_t utc_now();  // nanoseconds since 1970

}  // namespace nodesnap
