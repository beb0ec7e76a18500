// The envelope of the JSON objects of a repository: magic, checksum, kind, repository UUID and features around an object's own members.
// See docs/format.md, "Object header". Nothing of a stored text is believed before its checksum holds; then sizes, depth and types are
// checked.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

inline constexpr std::size_t kJsonObjectLimit = 64U << 10;  // bytes of a stored JSON object

struct JsonObject {
    std::string kind;  // "repository", "session", "lease"
    Uuid repository;
    std::uint64_t incompat = 0;   // features that a reader must know
    std::uint64_t ro_compat = 0;  // features that a writer must know
    std::uint64_t compat = 0;
    nlohmann::ordered_json members = nlohmann::ordered_json::object();  // the object's own
};

// Features that this version knows.
inline constexpr std::uint64_t kReceiptsFeature = 1;  // ro-compat, of a repository: it keeps receipts, see receipt.h
inline constexpr std::uint64_t kKnownIncompatFeatures = 0;
inline constexpr std::uint64_t kKnownReadOnlyCompatFeatures = kReceiptsFeature;

Bytes encode_json_object(const JsonObject& object);

// Error::damaged if anything is wrong with it or it belongs to another repository (when one is given), Error::refused (with the advice to
// upgrade) if it needs features that this version doesn't know. `name` is for messages.
JsonObject decode_json_object(std::span<const std::byte> bytes, std::string_view kind, const std::string& name,
                              const std::optional<Uuid>& repository = {});

// A member of the given type, within its bounds; Error::damaged otherwise.
namespace member {
inline constexpr std::size_t kTextLimit = 16384;  // a path of PATH_MAX bytes in hexadecimal digits
std::string text(const nlohmann::ordered_json& from, const char* key, const std::string& name);
std::int64_t integer(const nlohmann::ordered_json& from, const char* key, const std::string& name);
std::uint64_t unsigned_integer(const nlohmann::ordered_json& from, const char* key, const std::string& name);
bool boolean(const nlohmann::ordered_json& from, const char* key, const std::string& name);
Uuid uuid(const nlohmann::ordered_json& from, const char* key, const std::string& name);
// 64 bits as 16 hexadecimal digits: JSON numbers lose precision above 2^53 in many readers.
std::uint64_t hex64(const nlohmann::ordered_json& from, const char* key, const std::string& name);
std::string to_hex64(std::uint64_t value);
// Bytes that may not be UTF-8 (paths): as they are, when they are UTF-8 and don't begin with "hex:", otherwise "hex:" and digits.
std::string path(const nlohmann::ordered_json& from, const char* key, const std::string& name);
std::string from_path(const std::string& bytes);
}  // namespace member

}  // namespace nodesnap
