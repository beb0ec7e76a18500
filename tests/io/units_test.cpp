#include "io/units.h"

#include <gtest/gtest.h>

#include <limits>

#include "platform/error.h"

namespace nodesnap::test {
namespace {

using namespace std::chrono_literals;

template <typename Parse>
std::string refusal(Parse parse, std::string_view text) {
    try {
        parse(text);
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kUsage);
        EXPECT_FALSE(error.hint().empty());
        return error.message();
    }
    return "accepted";
}

TEST(UnitsTest, ReadsSizes) {
    EXPECT_EQ(parse_size("0"), 0U);
    EXPECT_EQ(parse_size("4096"), 4096U);
    EXPECT_EQ(parse_size("64K"), 65536U);
    EXPECT_EQ(parse_size("64k"), 65536U);
    EXPECT_EQ(parse_size("1.5G"), 1610612736U);
    EXPECT_EQ(parse_size("2TiB"), 2199023255552U);
    EXPECT_EQ(parse_size(" 3 MB "), 3145728U);
    EXPECT_EQ(parse_size("12B"), 12U);
    EXPECT_EQ(parse_size("9007199254740993"), 9007199254740993U);  // more than a double holds
    EXPECT_EQ(parse_size("8000P"), 8000ULL << 50);
}

TEST(UnitsTest, RefusesWhatIsNotASize) {
    for (const char* text : {"", " ", "K", "-1", "+1", "1e3", "0x10", "1.2.3", ".", "1KK", "1Q", "1 K B", "9000P", "99999999999999999999",
                             "1K extra", "nan", "inf"}) {
        EXPECT_EQ(refusal(parse_size, text), "\"" + std::string(text) + "\" is not a size");
    }
}

TEST(UnitsTest, ReadsRates) {
    EXPECT_EQ(parse_rate("50M"), 50U << 20);
    EXPECT_EQ(parse_rate("50M/s"), 50U << 20);
    EXPECT_EQ(parse_rate("50 MiB/s"), 50U << 20);
    EXPECT_EQ(parse_rate("off"), 0U);
    EXPECT_EQ(parse_rate("none"), 0U);
    EXPECT_EQ(parse_rate("0"), 0U);
    EXPECT_NE(refusal(parse_rate, "fast"), "accepted");
    EXPECT_NE(refusal(parse_rate, "50M/h"), "accepted");
    EXPECT_NE(refusal(parse_rate, "0.1"), "accepted");  // would be no cap at all
}

TEST(UnitsTest, ReadsDurations) {
    EXPECT_EQ(parse_duration("90s"), 90s);
    EXPECT_EQ(parse_duration("15m"), 15min);
    EXPECT_EQ(parse_duration("26h"), 26h);
    EXPECT_EQ(parse_duration("30d"), 720h);
    EXPECT_EQ(parse_duration("2w"), 336h);
    EXPECT_EQ(parse_duration("1h30m"), 90min);
    EXPECT_EQ(parse_duration("1 hour 30 minutes"), 90min);
    EXPECT_EQ(parse_duration("250ms"), 250ms);
    EXPECT_EQ(parse_duration("1.5h"), 90min);
    EXPECT_EQ(parse_duration("0"), 0s);
    for (const char* text : {"", "5", "h", "-1h", "5 parsecs", "1h30", "1000000d1000000000w"}) {
        EXPECT_NE(refusal(parse_duration, text), "accepted") << text;
    }
}

constexpr std::int64_t kMay = 1717165805;  // 2024-05-31T14:30:05Z

TEST(UnitsTest, ReadsTimes) {
    EXPECT_EQ(parse_time("2024-05-31T14:30:05Z"), kMay * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31t14:30:05z"), kMay * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31 14:30:05"), kMay * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31 14:30:05 UTC"), kMay * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31T16:30:05+02:00"), kMay * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31 09:00:05 -0530"), kMay * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31T14:30:05.123456789Z"), kMay * 1'000'000'000 + 123'456'789);
    EXPECT_EQ(parse_time("2024-05-31T14:30:05.5Z"), kMay * 1'000'000'000 + 500'000'000);
    EXPECT_EQ(parse_time("2024-05-31 14:30"), (kMay - 5) * 1'000'000'000);
    EXPECT_EQ(parse_time("2024-05-31"), (kMay - 14 * 3600 - 30 * 60 - 5) * 1'000'000'000);
    EXPECT_EQ(parse_time("1969-12-31T23:59:59Z"), -1'000'000'000);
    EXPECT_EQ(parse_time("now", 77), 77);
    EXPECT_EQ(parse_time("2h ago", 7200'000'000'123), 123);
    EXPECT_EQ(parse_time("2h 30m ago", 9000'000'000'123), 123);
    EXPECT_GT(parse_time("now"), kMay * 1'000'000'000);
}

TEST(UnitsTest, RefusesWhatIsNotATime) {
    for (const char* text : {"", "yesterday", "2024-13-01", "2024-02-30", "2023-02-29", "2024-5-31", "2024-05-31 24:00", "2024-05-31 14",
                             "2024-05-31T14:30:05+24:00", "2024-05-31T14:30:05.Z", "2024-05-31 14:30 somewhere", "2024-05-31x",
                             "1600-01-01", "2300-01-01", "ago", "h ago", "20240531"}) {
        EXPECT_NE(refusal([](std::string_view given) { parse_time(given); }, text), "accepted") << text;
    }
}

TEST(UnitsTest, WritesTimes) {
    EXPECT_EQ(format_utc(kMay * 1'000'000'000 + 999'999'999), "2024-05-31T14:30:05Z");
    EXPECT_EQ(format_utc_precise(kMay * 1'000'000'000 + 12'345), "2024-05-31T14:30:05.000012345Z");
    EXPECT_EQ(format_utc(-1), "1969-12-31T23:59:59Z");
    EXPECT_EQ(format_utc_precise(-1), "1969-12-31T23:59:59.999999999Z");
    EXPECT_EQ(format_utc_precise(std::numeric_limits<std::int64_t>::min()), "1677-09-21T00:12:43.145224192Z");
    EXPECT_EQ(format_utc_precise(std::numeric_limits<std::int64_t>::max()), "2262-04-11T23:47:16.854775807Z");
    EXPECT_EQ(parse_time(format_utc_precise(kMay * 1'000'000'000 + 1)), kMay * 1'000'000'000 + 1);
}

TEST(UnitsTest, WritesForPeople) {
    EXPECT_EQ(human_bytes(0), "0 B");
    EXPECT_EQ(human_bytes(1023), "1023 B");
    EXPECT_EQ(human_bytes(1024), "1.0 KiB");
    EXPECT_EQ(human_bytes(1288490189), "1.2 GiB");
    EXPECT_EQ(human_bytes((1 << 20) - 1), "1.0 MiB");
    EXPECT_EQ(human_bytes(~std::uint64_t{0}), "16.0 EiB");
    EXPECT_EQ(human_rate(52428800.4), "50.0 MiB/s");
    EXPECT_EQ(human_rate(-1), "0 B/s");
    EXPECT_EQ(human_rate(std::numeric_limits<double>::infinity()), "8.0 EiB/s");
    EXPECT_EQ(human_rate(std::numeric_limits<double>::quiet_NaN()), "0 B/s");
    EXPECT_EQ(human_duration(0ns), "0.0 us");
    EXPECT_EQ(human_duration(3'210us), "3.2 ms");
    EXPECT_EQ(human_duration(12s), "12.0 s");
    EXPECT_EQ(human_duration(59'990ms), "1m 00s");
    EXPECT_EQ(human_duration(245s), "4m 05s");
    EXPECT_EQ(human_duration(2h + 3min), "2h 03m");
    EXPECT_EQ(human_duration(124h), "5d 04h");
    EXPECT_EQ(human_duration(-5s), "0.0 us");
}

}  // namespace
}  // namespace nodesnap::test
