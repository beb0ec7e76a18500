#include "snapshot/backend/snapshot_name.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <span>

#include "io/checksum.h"
#include "io/units.h"
#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::string_view kTemporary = ".tmp";
constexpr std::string_view kBeforeRollback = "before-rollback-";
constexpr std::string_view kVolumePrefix = "nodesnap.";  // LVM reserves some beginnings, "snapshot" among them
constexpr std::size_t kHashDigits = 8;
constexpr std::size_t kLongestBase = 40;
constexpr std::size_t kLongestVolumeBase = 20;
constexpr std::size_t kLongestGiven = 200;
static_assert(kVolumePrefix.size() + kLongestVolumeBase <= kLongestBase);
static_assert(kLongestBase + 1 + kHashDigits + 1 + kLongestGiven + kTemporary.size() <= 255);

std::string hash_digits(const std::string& path) {
    const Checksum checksum = Hasher(0)(std::as_bytes(std::span(path)));
    std::array<char, kHashDigits + 1> digits{};
    std::snprintf(digits.data(), digits.size(), "%08x", static_cast<unsigned>(checksum.low & 0xffffffff));
    return digits.data();
}

// LVM reserves names with some words behind a '_', too, and doubles each '-'.
std::string volume_base(std::string base) {
    constexpr const char* kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.";
    base.resize(std::min(base.size(), kLongestVolumeBase));
    for (char& c : base) {
        if (std::string_view(kAllowed).find(c) == std::string_view::npos) {
            c = '.';
        }
    }
    return std::string(kVolumePrefix) + base;
}

bool is_given_name(std::string_view given) {
    return !given.empty() && given.size() <= kLongestGiven && !given.ends_with(kTemporary) &&
           std::none_of(given.begin(), given.end(), [](char c) { return c == '/' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

SnapshotNaming::SnapshotNaming(const std::string& node_directory, NameStyle style) {
    const std::string name = node_directory.substr(node_directory.rfind('/') + 1);
    const std::string base = name.empty() ? "root" : name.substr(0, kLongestBase);
    prefix_ = (style == NameStyle::kVolume ? volume_base(base) : base) + "-" + hash_digits(node_directory) + ".";
}

std::string SnapshotNaming::on_disk(const std::string& given, bool temporary) const {
    if (!is_given_name(given)) {
        throw Error::usage("\"" + given + "\" is not a name for a snapshot",
                           "up to 200 bytes without '/' and control characters, and without \".tmp\" at the end");
    }
    return prefix_ + given + (temporary ? std::string(kTemporary) : "");
}

std::optional<SnapshotName> SnapshotNaming::parse(std::string_view on_disk) const {
    if (!on_disk.starts_with(prefix_)) {
        return std::nullopt;
    }
    on_disk.remove_prefix(prefix_.size());
    const bool temporary = on_disk.ends_with(kTemporary);
    if (temporary) {
        on_disk.remove_suffix(kTemporary.size());
    }
    if (!is_given_name(on_disk)) {
        return std::nullopt;
    }
    return SnapshotName{std::string(on_disk), temporary};
}

std::string before_rollback_name(std::int64_t utc_ns) {
    std::string time = format_utc(utc_ns);
    std::erase_if(time, [](char c) { return c == '-' || c == ':'; });
    return std::string(kBeforeRollback) + time;
}

std::optional<std::int64_t> rolled_back_at(std::string_view given) {
    constexpr std::string_view kPattern = "dddddddd.dddddd.";  // 20240531T143005Z; of several in one second the later ones have a number
    if (!given.starts_with(kBeforeRollback) || given.size() < kBeforeRollback.size() + kPattern.size()) {
        return std::nullopt;
    }
    const std::string_view time = given.substr(kBeforeRollback.size());
    for (std::size_t i = 0; i < kPattern.size(); ++i) {
        const bool digit = time[i] >= '0' && time[i] <= '9';
        if (kPattern[i] == 'd' ? !digit : time[i] != (i == 8 ? 'T' : 'Z')) {
            return std::nullopt;
        }
    }
    const auto part = [time](std::size_t at, std::size_t length) { return std::string(time.substr(at, length)); };
    try {
        return parse_time(part(0, 4) + "-" + part(4, 2) + "-" + part(6, 2) + "T" + part(9, 2) + ":" + part(11, 2) + ":" + part(13, 2) +
                          "Z");
    } catch (const Error&) {
        return std::nullopt;  // the 31st of February
    }
}

bool is_snapshot_name(std::string_view on_disk) {
    const auto is_hash = [&](std::size_t at) {
        const std::string_view digits = on_disk.substr(at, kHashDigits);
        return digits.size() == kHashDigits && digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
    };
    // The base name may hold '-' and '.' itself.
    for (std::size_t dash = on_disk.find('-', 1); dash != std::string_view::npos; dash = on_disk.find('-', dash + 1)) {
        const std::size_t dot = dash + 1 + kHashDigits;
        if (dash <= kLongestBase && is_hash(dash + 1) && dot + 1 < on_disk.size() && on_disk[dot] == '.') {
            return true;
        }
    }
    return false;
}

bool is_temporary_snapshot_name(std::string_view on_disk) {
    return is_snapshot_name(on_disk) && on_disk.ends_with(kTemporary);
}

std::string without_temporary(const std::string& on_disk) {
    return on_disk.ends_with(kTemporary) ? on_disk.substr(0, on_disk.size() - kTemporary.size()) : on_disk;
}

}  // namespace nodesnap
