#include "io/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;
constexpr double kMaxNumber = 9.2e18;  // all results fit 63 bits

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) {
        text.remove_prefix(1);
    }
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
        text.remove_suffix(1);
    }
    return text;
}

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

// Takes a number without a sign or an exponent ("12", "1.5") from the front.
std::optional<double> take_number(std::string_view& text) {
    std::size_t length = 0;
    while (length < text.size() && (std::isdigit(static_cast<unsigned char>(text[length])) != 0 || text[length] == '.')) {
        ++length;
    }
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + length, number, std::chars_format::fixed);
    if (length == 0 || error != std::errc() || end != text.data() + length || number > kMaxNumber) {
        return std::nullopt;
    }
    text.remove_prefix(length);
    return number;
}

std::optional<double> size_factor(std::string_view unit) {
    static constexpr std::string_view kPrefixes = "kmgtp";
    std::string name = lower(trimmed(unit));
    if (name.empty() || name == "b") {
        return 1.0;
    }
    const std::size_t power = kPrefixes.find(name[0]);
    if (power == std::string_view::npos || (name.size() > 1 && name.substr(1) != "b" && name.substr(1) != "ib")) {
        return std::nullopt;
    }
    return std::exp2(10.0 * static_cast<double>(power + 1));
}

// Exact for whole numbers, which needn't fit a double.
std::optional<std::uint64_t> whole_or_scaled(std::string_view digits, double number, double factor) {
    const double scaled = number * factor;
    if (!(scaled <= kMaxNumber)) {
        return std::nullopt;
    }
    std::uint64_t whole = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), whole);
    if (error == std::errc() && end == digits.data() + digits.size()) {
        return whole * static_cast<std::uint64_t>(factor);
    }
    return static_cast<std::uint64_t>(std::llround(scaled));
}

std::optional<std::uint64_t> read_size(std::string_view text) {
    const std::string_view all = trimmed(text);
    std::string_view rest = all;
    const std::optional<double> number = take_number(rest);
    const std::optional<double> factor = size_factor(rest);
    if (!number || !factor) {
        return std::nullopt;
    }
    return whole_or_scaled(all.substr(0, all.size() - rest.size()), *number, *factor);
}

std::optional<double> unit_nanoseconds(std::string_view unit) {
    struct Unit {
        std::string_view names;  // each between blanks
        double nanoseconds;
    };
    static constexpr std::array<Unit, 8> kUnits = {{
        {" ns ", 1},
        {" us ", 1e3},
        {" ms ", 1e6},
        {" s sec secs second seconds ", 1e9},
        {" m min mins minute minutes ", 60e9},
        {" h hour hours ", 3600e9},
        {" d day days ", 86400e9},
        {" w week weeks ", 7 * 86400e9},
    }};
    for (const Unit& known : kUnits) {
        if (!unit.empty() && known.names.find(" " + lower(unit) + " ") != std::string_view::npos) {
            return known.nanoseconds;
        }
    }
    return std::nullopt;
}

std::optional<std::chrono::nanoseconds> read_duration(std::string_view text) {
    std::string_view rest = trimmed(text);
    if (rest == "0") {
        return std::chrono::nanoseconds::zero();
    }
    double sum = 0;
    bool any = false;
    while (!rest.empty()) {
        const std::optional<double> number = take_number(rest);
        rest = trimmed(rest);
        std::size_t length = 0;
        while (length < rest.size() && std::isalpha(static_cast<unsigned char>(rest[length])) != 0) {
            ++length;
        }
        const std::optional<double> unit = unit_nanoseconds(rest.substr(0, length));
        if (!number || !unit) {
            return std::nullopt;
        }
        sum += *number * *unit;
        any = true;
        rest = trimmed(rest.substr(length));
    }
    if (!any || !(sum <= kMaxNumber)) {
        return std::nullopt;
    }
    return std::chrono::nanoseconds(std::llround(sum));
}

// Takes exactly `digits` digits from the front.
bool take_digits(std::string_view& text, std::size_t digits, int& value) {
    if (text.size() < digits) {
        return false;
    }
    value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
        if (std::isdigit(static_cast<unsigned char>(text[i])) == 0) {
            return false;
        }
        value = value * 10 + (text[i] - '0');
    }
    text.remove_prefix(digits);
    return true;
}

bool take_character(std::string_view& text, char wanted) {
    if (text.empty() || text.front() != wanted) {
        return false;
    }
    text.remove_prefix(1);
    return true;
}

// ".123" to nanoseconds; nothing is 0.
bool take_fraction(std::string_view& text, std::int64_t& nanoseconds) {
    nanoseconds = 0;
    if (!take_character(text, '.')) {
        return true;
    }
    std::int64_t unit = kNanoseconds / 10;
    std::size_t length = 0;
    for (; length < text.size() && std::isdigit(static_cast<unsigned char>(text[length])) != 0; ++length) {
        nanoseconds += (text[length] - '0') * unit;
        unit /= 10;
    }
    text.remove_prefix(length);
    return length > 0;
}

// "Z", "+02:00", "-0530", "UTC" or nothing (UTC), to the seconds that the text's clock is ahead.
bool take_zone(std::string_view& text, int& ahead_seconds) {
    text = trimmed(text);
    ahead_seconds = 0;
    if (text.empty() || lower(text) == "z" || lower(text) == "utc") {
        text = {};
        return true;
    }
    const int sign = text.front() == '-' ? -1 : 1;
    int hours = 0;
    int minutes = 0;
    if (!(take_character(text, '+') || take_character(text, '-')) || !take_digits(text, 2, hours)) {
        return false;
    }
    take_character(text, ':');
    if (!text.empty() && !take_digits(text, 2, minutes)) {
        return false;
    }
    ahead_seconds = sign * (hours * 3600 + minutes * 60);
    return hours < 24 && minutes < 60;
}

bool take_date(std::string_view& text, std::chrono::sys_days& day) {
    int year = 0;
    int month = 0;
    int number = 0;
    if (!take_digits(text, 4, year) || !take_character(text, '-') || !take_digits(text, 2, month) || !take_character(text, '-') ||
        !take_digits(text, 2, number)) {
        return false;
    }
    const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(number))};
    day = date;
    return date.ok() && year >= 1678 && year < 2262;  // what 64 bits of nanoseconds hold
}

std::optional<std::int64_t> read_calendar_time(std::string_view text) {
    std::chrono::sys_days day;
    std::int64_t fraction = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
    int ahead = 0;
    if (!take_date(text, day)) {
        return std::nullopt;
    }
    if (take_character(text, 'T') || take_character(text, 't') || take_character(text, ' ')) {
        if (!take_digits(text, 2, hour) || !take_character(text, ':') || !take_digits(text, 2, minute)) {
            return std::nullopt;
        }
        if (take_character(text, ':') && !(take_digits(text, 2, second) && take_fraction(text, fraction))) {
            return std::nullopt;
        }
        if (!take_zone(text, ahead)) {
            return std::nullopt;
        }
    }
    if (!text.empty() || hour > 23 || minute > 59 || second > 60) {
        return std::nullopt;
    }
    const std::int64_t days = day.time_since_epoch().count();
    return (days * 86400 + hour * 3600 + minute * 60 + second - ahead) * kNanoseconds + fraction;
}

std::optional<std::int64_t> read_time(std::string_view text, std::int64_t now) {
    if (lower(text) == "now") {
        return now;
    }
    static constexpr std::string_view kAgo = "ago";
    if (text.size() > kAgo.size() && lower(text).ends_with(kAgo)) {
        const auto duration = read_duration(text.substr(0, text.size() - kAgo.size()));
        return duration ? std::optional(now - duration->count()) : std::nullopt;
    }
    return read_calendar_time(text);
}

std::string quoted(std::string_view text) {
    return "\"" + std::string(text) + "\"";
}

}  // namespace

std::uint64_t parse_size(std::string_view text) {
    if (const auto size = read_size(text)) {
        return *size;
    }
    throw Error::usage(quoted(text) + " is not a size", "give a number with K, M, G, T or P (powers of 1024), such as 64K or 1.5G");
}

std::uint64_t parse_rate(std::string_view text) {
    std::string_view number = trimmed(text);
    const std::string name = lower(number);
    if (name == "off" || name == "none" || name == "unlimited") {
        return 0;
    }
    if (name.ends_with("/s")) {
        number.remove_suffix(2);
    }
    const auto rate = read_size(number);
    // Less than a byte a second isn't "no cap".
    if (rate && (*rate > 0 || number.find_first_not_of("0.") == std::string_view::npos)) {
        return *rate;
    }
    throw Error::usage(quoted(text) + " is not a rate",
                       "give bytes per second with K, M or G (powers of 1024), such as 50M or 50M/s, or off");
}

std::chrono::nanoseconds parse_duration(std::string_view text) {
    if (const auto duration = read_duration(text)) {
        return *duration;
    }
    throw Error::usage(quoted(text) + " is not a duration", "give a number with ms, s, m, h, d or w, such as 90s, 26h, 30d or 1h30m");
}

std::int64_t parse_time(std::string_view text, std::int64_t now) {
    if (const auto time = read_time(trimmed(text), now != 0 ? now : utc_now())) {
        return *time;
    }
    throw Error::usage(quoted(text) + " is not a time",
                       "give YYYY-MM-DD, \"YYYY-MM-DD HH:MM[:SS]\" (UTC, or with a zone such as +02:00), an RFC 3339 time, now, or \"2h "
                       "ago\"; the years 1678 to "
                       "2261 are known");
}

std::int64_t utc_now() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace nodesnap
