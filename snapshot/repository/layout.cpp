#include "snapshot/repository/layout.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <limits>

#include "platform/error.h"

namespace nodesnap::layout {
namespace {

constexpr std::string_view kPackSuffix = ".pack";
constexpr std::string_view kSessionSuffix = ".session";
constexpr std::string_view kDraftSuffix = ".draft";
constexpr std::string_view kLogSuffix = ".log";
constexpr std::string_view kCutSuffix = ".json";
constexpr std::string_view kGivenUpSuffix = ".given-up";
constexpr std::string_view kForgottenSuffix = ".forgotten";
constexpr std::size_t kSequenceDigits = 10;
constexpr std::size_t kUtcLength = 16;  // YYYYMMDDThhmmssZ
constexpr std::size_t kStem = kSequenceDigits + 1 + kUtcLength;

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) {
        return false;
    }
    text.remove_prefix(prefix.size());
    return true;
}

bool take_suffix(std::string_view& text, std::string_view suffix) {
    if (!text.ends_with(suffix)) {
        return false;
    }
    text.remove_suffix(suffix.size());
    return true;
}

bool all_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Digits only, no superfluous zeros, so that a number has one spelling.
std::optional<std::uint32_t> parse_number(std::string_view text) {
    if (!all_digits(text) || (text.size() > 1 && text[0] == '0')) {
        return std::nullopt;
    }
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

std::uint64_t fixed_number(std::string_view digits) {
    std::uint64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

std::optional<std::int64_t> parse_utc(std::string_view text) {
    using namespace std::chrono;
    if (text.size() != kUtcLength || text[8] != 'T' || text[15] != 'Z' || !all_digits(text.substr(0, 8)) ||
        !all_digits(text.substr(9, 6))) {
        return std::nullopt;
    }
    const auto number = [&](std::size_t at, std::size_t length) { return static_cast<unsigned>(fixed_number(text.substr(at, length))); };
    const year_month_day date{year{static_cast<int>(number(0, 4))}, month{number(4, 2)}, day{number(6, 2)}};
    const unsigned hour = number(9, 2);
    const unsigned minute = number(11, 2);
    const unsigned second = number(13, 2);
    if (!date.ok() || date.year() < year{1970} || hour > 23 || minute > 59 || second > 59) {
        return std::nullopt;
    }
    return duration_cast<seconds>(sys_days{date}.time_since_epoch()).count() + hour * 3600 + minute * 60 + second;
}

std::string cluster_object(const Uuid& id, std::string_view suffix) {
    return std::string(kClusters) + id.text() + std::string(suffix);
}

std::optional<Uuid> parse_cluster_object(std::string_view name, std::string_view suffix) {
    if (!take_prefix(name, kClusters) || !take_suffix(name, suffix)) {
        return std::nullopt;
    }
    return Uuid::parse(name);
}

std::string format_utc_name(std::int64_t utc_seconds) {
    using namespace std::chrono;
    const sys_seconds time{seconds{utc_seconds}};
    const auto midnight = floor<days>(time);
    const year_month_day date{midnight};
    const hh_mm_ss clock{time - midnight};
    const int year_number = static_cast<int>(date.year());
    if (year_number < 1970 || year_number > 9999) {
        throw Error::failed("the time of a backup lies outside the years 1970 to 9999", "set the system's clock");
    }
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%04d%02u%02uT%02d%02d%02dZ", year_number, static_cast<unsigned>(date.month()),
                  static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                  static_cast<int>(clock.seconds().count()));
    return text.data();
}

}  // namespace

std::string pack(const PackName& name) {
    const std::string id = name.id.hex();
    const std::string_view folder = name.kind == PackKind::kData ? kDataPacks : kNodePacks;
    return std::string(folder) + id.substr(0, 2) + "/" + id + "." + std::to_string(name.generation) + std::string(kPackSuffix);
}

std::string manifest(const ManifestName& name) {
    if (name.sequence > kSequenceLimit) {
        throw Error::failed("the sequence number of a backup is beyond 9999999999");
    }
    std::string sequence = std::to_string(name.sequence);
    sequence.insert(0, kSequenceDigits - sequence.size(), '0');
    return std::string(kBackups) + sequence + "-" + format_utc_name(name.utc_seconds) + "." + std::to_string(name.revision);
}

std::string receipt(const ManifestName& name) {
    const std::string first = manifest({name.sequence, name.utc_seconds, 0});
    return std::string(kReceipts) + first.substr(kBackups.size(), kStem);
}

std::string session(const SessionId& id) {
    return std::string(kJournal) + id.hex() + std::string(kSessionSuffix);
}

std::string draft(const SessionId& id) {
    return std::string(kJournal) + id.hex() + std::string(kDraftSuffix);
}

std::string pack_log(const PackId& id) {
    return std::string(kJournal) + id.hex() + std::string(kLogSuffix);
}

std::string shared_lock(const SessionId& id) {
    return "locks/" + id.hex() + ".shared";
}

std::string checks(std::uint8_t first_byte) {
    PackId id;
    id.bytes[0] = first_byte;
    return std::string(kChecks) + id.hex().substr(0, 2);
}

std::string cut(const Uuid& id) {
    return cluster_object(id, kCutSuffix);
}

std::string cut_given_up(const Uuid& id) {
    return cluster_object(id, kGivenUpSuffix);
}

std::string cut_forgotten(const Uuid& id) {
    return cluster_object(id, kForgottenSuffix);
}

std::string remains(std::string_view object) {
    return "lost/" + std::string(object);
}

std::optional<PackName> parse_pack(std::string_view name) {
    constexpr std::size_t kIdDigits = 32;
    PackKind kind = PackKind::kData;
    if (!take_prefix(name, kDataPacks)) {
        if (!take_prefix(name, kNodePacks)) {
            return std::nullopt;
        }
        kind = PackKind::kNodes;
    }
    if (!take_suffix(name, kPackSuffix) || name.size() < 3 + kIdDigits + 2 || name[2] != '/' || name[3 + kIdDigits] != '.') {
        return std::nullopt;
    }
    const auto id = PackId::parse(name.substr(3, kIdDigits));
    const auto generation = parse_number(name.substr(3 + kIdDigits + 1));
    if (!id || !generation || name.substr(0, 2) != name.substr(3, 2)) {
        return std::nullopt;
    }
    return PackName{kind, *id, *generation};
}

std::optional<ManifestName> parse_manifest(std::string_view name) {
    if (!take_prefix(name, kBackups) || name.size() < kStem + 2 || name[kSequenceDigits] != '-' || name[kStem] != '.' ||
        !all_digits(name.substr(0, kSequenceDigits))) {
        return std::nullopt;
    }
    const auto utc = parse_utc(name.substr(kSequenceDigits + 1, kUtcLength));
    const auto revision = parse_number(name.substr(kStem + 1));
    if (!utc || !revision) {
        return std::nullopt;
    }
    return ManifestName{fixed_number(name.substr(0, kSequenceDigits)), *utc, *revision};
}

std::optional<ManifestName> parse_receipt(std::string_view name) {
    return take_prefix(name, kReceipts) && name.size() == kStem ? parse_manifest(std::string(kBackups).append(name).append(".0"))
                                                                : std::nullopt;
}

std::optional<SessionId> parse_session(std::string_view name) {
    if (!take_prefix(name, kJournal) || !take_suffix(name, kSessionSuffix)) {
        return std::nullopt;
    }
    return SessionId::parse(name);
}

std::optional<SessionId> parse_draft(std::string_view name) {
    if (!take_prefix(name, kJournal) || !take_suffix(name, kDraftSuffix)) {
        return std::nullopt;
    }
    return SessionId::parse(name);
}

std::optional<PackId> parse_pack_log(std::string_view name) {
    if (!take_prefix(name, kJournal) || !take_suffix(name, kLogSuffix)) {
        return std::nullopt;
    }
    return PackId::parse(name);
}

std::optional<Uuid> parse_cut(std::string_view name) {
    return parse_cluster_object(name, kCutSuffix);
}

std::optional<Uuid> parse_cut_given_up(std::string_view name) {
    return parse_cluster_object(name, kGivenUpSuffix);
}

std::optional<Uuid> parse_cut_forgotten(std::string_view name) {
    return parse_cluster_object(name, kForgottenSuffix);
}

}  // namespace nodesnap::layout
