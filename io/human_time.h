// How a time is written for people, in messages and tables.
#pragma once

#include <cstdint>
#include <string>

namespace nodesnap {

std::string human_time(std::int64_t nanoseconds);  // "2024-05-31 14:30:05", in UTC: what says so stands beside it

}  // namespace nodesnap
