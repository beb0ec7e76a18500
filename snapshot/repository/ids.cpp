#include "snapshot/repository/ids.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "platform/random.h"

namespace nodesnap {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

std::string to_hex(std::span<const std::uint8_t> bytes) {
    std::string text;
    text.reserve(2 * bytes.size());
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

// Lower case only: every id has one spelling.
bool from_hex(std::string_view text, std::span<std::uint8_t> bytes) {
    if (text.size() != 2 * bytes.size()) {
        return false;
    }
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto high = kDigits.find(text[2 * i]);
        const auto low = kDigits.find(text[2 * i + 1]);
        if (high == std::string_view::npos || low == std::string_view::npos) {
            return false;
        }
        bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return true;
}

constexpr std::array<std::size_t, 4> kUuidDashes = {8, 13, 18, 23};

}  // namespace

std::string two_digits(unsigned byte) {
    const std::uint8_t bytes[] = {static_cast<std::uint8_t>(byte)};
    return to_hex(bytes);
}

std::string Uuid::text() const {
    std::string text = to_hex(bytes);
    for (const std::size_t at : kUuidDashes) {
        text.insert(at, "-");
    }
    return text;
}

Uuid Uuid::random() {
    Uuid uuid;
    random_bytes(std::as_writable_bytes(std::span(uuid.bytes)));
    uuid.bytes[6] = static_cast<std::uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);
    uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
    return uuid;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 36 || !std::all_of(kUuidDashes.begin(), kUuidDashes.end(), [&](std::size_t at) { return text[at] == '-'; })) {
        return std::nullopt;
    }
    std::string digits;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (std::find(kUuidDashes.begin(), kUuidDashes.end(), i) == kUuidDashes.end()) {
            digits += text[i];
        }
    }
    Uuid uuid;
    return from_hex(digits, uuid.bytes) ? std::optional(uuid) : std::nullopt;
}

std::string SessionId::hex() const {
    return to_hex(bytes);
}

SessionId SessionId::random() {
    SessionId id;
    random_bytes(std::as_writable_bytes(std::span(id.bytes)));
    return id;
}

std::optional<SessionId> SessionId::parse(std::string_view hex) {
    SessionId id;
    return from_hex(hex, id.bytes) ? std::optional(id) : std::nullopt;
}

std::string PackId::hex() const {
    return to_hex(bytes);
}

SessionId PackId::session() const noexcept {
    SessionId session;
    std::copy_n(bytes.begin() + 1, session.bytes.size(), session.bytes.begin());
    return session;
}

std::uint32_t PackId::counter() const noexcept {
    std::uint32_t counter = 0;
    for (std::size_t i = 12; i < bytes.size(); ++i) {
        counter = counter << 8 | bytes[i];
    }
    return counter;
}

PackId PackId::of(const SessionId& session, std::uint32_t counter) noexcept {
    PackId id;
    id.bytes[0] = static_cast<std::uint8_t>(counter);
    std::copy(session.bytes.begin(), session.bytes.end(), id.bytes.begin() + 1);
    for (std::size_t i = 0; i < 4; ++i) {
        id.bytes[12 + i] = static_cast<std::uint8_t>(counter >> (24 - 8 * i));
    }
    return id;
}

std::optional<PackId> PackId::parse(std::string_view hex) {
    PackId id;
    return from_hex(hex, id.bytes) ? std::optional(id) : std::nullopt;
}

std::size_t PackIdHash::operator()(const PackId& id) const noexcept {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::memcpy(&low, id.bytes.data(), 8);
    std::memcpy(&high, id.bytes.data() + 8, 8);
    return (low ^ high * 0x9e37'79b9'7f4a'7c15ULL) * 0xff51'afd7'ed55'8ccdULL >> 16;
}

}  // namespace nodesnap
