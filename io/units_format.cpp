// How sizes, rates, durations and times are written; units.cpp reads them.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "io/units.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;
constexpr double kMaxNumber = 9.2e18;  // below 2^63

template <typename... Values>
std::string print(const char* format, Values... values) {
    std::array<char, 96> text{};
    const int length = std::snprintf(text.data(), text.size(), format, values...);
    return {text.data(), static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(text.size()) - 1))};
}

std::string calendar(std::int64_t seconds) {
    const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(time - day);
    return print("%04d-%02u-%02uT%02d:%02d:%02d", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                 static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                 static_cast<int>(clock.seconds().count()));
}

std::int64_t floor_seconds(std::int64_t nanoseconds) {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::nanoseconds(nanoseconds)).count();
}

}  // namespace

std::string format_utc(std::int64_t nanoseconds) {
    return calendar(floor_seconds(nanoseconds)) + "Z";
}

std::string format_utc_precise(std::int64_t nanoseconds) {
    const std::int64_t seconds = floor_seconds(nanoseconds);
    // Not seconds * 10^9, which overflows at the very beginning of what 64 bits hold.
    const std::int64_t rest = nanoseconds % kNanoseconds;
    return calendar(seconds) + print(".%09lldZ", static_cast<long long>(rest < 0 ? rest + kNanoseconds : rest));
}

std::string human_bytes(std::uint64_t bytes) {
    static constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        return print("%llu B", static_cast<unsigned long long>(bytes));
    }
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < kUnits.size()) {  // what prints as 1024.0 is the next unit's 1.0
        value /= 1024;
        ++unit;
    }
    return print("%.1f %s", value, kUnits[unit]);
}

std::string human_rate(double bytes_per_second) {
    const double sane = bytes_per_second > 0 ? std::min(bytes_per_second, kMaxNumber) : 0;  // also for NaN
    return human_bytes(static_cast<std::uint64_t>(sane)) + "/s";
}

std::string human_duration(std::chrono::nanoseconds duration) {
    const std::int64_t nanoseconds = std::max<std::int64_t>(0, duration.count());
    const auto value = static_cast<double>(nanoseconds);
    if (value < 999.95e3) {
        return print("%.1f us", value / 1e3);
    }
    if (value < 999.95e6) {
        return print("%.1f ms", value / 1e6);
    }
    if (value < 59.95e9) {
        return print("%.1f s", value / 1e9);
    }
    const long long seconds = nanoseconds / kNanoseconds + (nanoseconds % kNanoseconds >= kNanoseconds / 2 ? 1 : 0);
    if (seconds < 3600) {
        return print("%lldm %02llds", seconds / 60, seconds % 60);
    }
    if (seconds < 86400) {
        return print("%lldh %02lldm", seconds / 3600, seconds % 3600 / 60);
    }
    return print("%lldd %02lldh", seconds / 86400, seconds % 86400 / 3600);
}

}  // namespace nodesnap
