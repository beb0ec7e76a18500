#include "snapshot/repository/json_object.h"

#include <algorithm>
#include <cstring>

#include "io/checksum.h"
#include "platform/error.h"

namespace nodesnap {
namespace {

using Json = nlohmann::ordered_json;

// The text begins with just these bytes, so that the digits are found without parsing a text that nobody has vouched for yet.
constexpr std::string_view kOpening = "{\n  \"magic\": \"nodesnap\",\n  \"checksum\": \"";
constexpr std::size_t kDigits = 32;
constexpr int kDepthLimit = 8;

std::string checksum_with_digits_zeroed(std::string text) {
    std::fill_n(text.begin() + kOpening.size(), kDigits, '0');
    return Hasher(0)(std::as_bytes(std::span(text))).hex();
}

Json parse_bounded(const std::string& text, const std::string& name) {
    bool too_deep = false;
    const auto watch = [&](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kDepthLimit;
        return true;
    };
    Json parsed = Json::parse(text, watch, false);
    if (parsed.is_discarded() || too_deep || !parsed.is_object()) {
        throw Error::damaged(name, too_deep ? "nested too deeply" : "not a JSON object");
    }
    return parsed;
}

const Json& find(const Json& from, const char* key, const std::string& name) {
    const auto found = from.is_object() ? from.find(key) : from.end();
    if (found == from.end()) {
        throw Error::damaged(name, std::string("member \"") + key + "\" is missing");
    }
    return *found;
}

[[noreturn]] void throw_wrong(const char* key, const std::string& name) {
    throw Error::damaged(name, std::string("member \"") + key + "\" is of the wrong type or out of range");
}

bool is_utf8(const std::string& bytes) {
    try {
        (void)Json(bytes).dump();
        return true;
    } catch (const Json::exception&) {
        return false;
    }
}

void check_features(const JsonObject& object, const std::string& name) {
    if ((object.incompat & ~kKnownIncompatFeatures) != 0) {
        throw Error::refused(name + " needs features that this version of nodesnap doesn't know", "upgrade nodesnap");
    }
}

}  // namespace

Bytes encode_json_object(const JsonObject& object) {
    Json json;
    json["magic"] = "nodesnap";
    json["checksum"] = std::string(kDigits, '0');
    json["kind"] = object.kind;
    json["repository"] = object.repository.text();
    json["incompat"] = object.incompat;
    json["ro_compat"] = object.ro_compat;
    json["compat"] = object.compat;
    for (const auto& [key, value] : object.members.items()) {
        json[key] = value;
    }
    // Host and command names may be any bytes; what isn't UTF-8 in them is for people only.
    std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    if (text.size() > kJsonObjectLimit) {
        throw Error::failed("a " + object.kind + " object would exceed 64 KiB");
    }
    const std::string digits = checksum_with_digits_zeroed(text);
    text.replace(kOpening.size(), kDigits, digits);
    const auto bytes = std::as_bytes(std::span(text));
    return Bytes(bytes.begin(), bytes.end());
}

JsonObject decode_json_object(std::span<const std::byte> bytes, std::string_view kind, const std::string& name,
                              const std::optional<Uuid>& repository) {
    if (bytes.size() > kJsonObjectLimit) {
        throw Error::damaged(name, "longer than 64 KiB");
    }
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!text.starts_with(kOpening) || text.size() < kOpening.size() + kDigits) {
        throw Error::damaged(name, "not an object of nodesnap");
    }
    if (text.substr(kOpening.size(), kDigits) != checksum_with_digits_zeroed(text)) {
        throw Error::damaged(name, "checksum mismatch");
    }
    JsonObject object;
    object.members = parse_bounded(text, name);
    object.kind = member::text(object.members, "kind", name);
    object.repository = member::uuid(object.members, "repository", name);
    object.incompat = member::unsigned_integer(object.members, "incompat", name);
    object.ro_compat = member::unsigned_integer(object.members, "ro_compat", name);
    object.compat = member::unsigned_integer(object.members, "compat", name);
    if (object.kind != kind) {
        throw Error::damaged(name, "of another kind than its name says");
    }
    if (repository && object.repository != *repository) {
        throw Error::damaged(name, "belongs to another repository");
    }
    check_features(object, name);
    for (const char* key : {"magic", "checksum", "kind", "repository", "incompat", "ro_compat", "compat"}) {
        object.members.erase(key);
    }
    return object;
}

namespace member {

std::string text(const Json& from, const char* key, const std::string& name) {
    const Json& value = find(from, key, name);
    if (!value.is_string() || value.get_ref<const std::string&>().size() > kTextLimit) {
        throw_wrong(key, name);
    }
    return value.get<std::string>();
}

std::int64_t integer(const Json& from, const char* key, const std::string& name) {
    const Json& value = find(from, key, name);
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
        throw_wrong(key, name);
    }
    return value.get<std::int64_t>();
}

std::uint64_t unsigned_integer(const Json& from, const char* key, const std::string& name) {
    const Json& value = find(from, key, name);
    if (!value.is_number_unsigned()) {
        throw_wrong(key, name);
    }
    return value.get<std::uint64_t>();
}

bool boolean(const Json& from, const char* key, const std::string& name) {
    const Json& value = find(from, key, name);
    if (!value.is_boolean()) {
        throw_wrong(key, name);
    }
    return value.get<bool>();
}

Uuid uuid(const Json& from, const char* key, const std::string& name) {
    const auto parsed = Uuid::parse(text(from, key, name));
    if (!parsed) {
        throw_wrong(key, name);
    }
    return *parsed;
}

std::uint64_t hex64(const Json& from, const char* key, const std::string& name) {
    const std::string digits = text(from, key, name);
    if (digits.size() != 16 || digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
        throw_wrong(key, name);
    }
    return std::stoull(digits, nullptr, 16);
}

std::string to_hex64(std::uint64_t value) {
    std::string digits(16, '0');
    for (std::size_t i = 0; i < digits.size(); ++i) {
        digits[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    }
    return digits;
}

std::string path(const Json& from, const char* key, const std::string& name) {
    std::string stored = text(from, key, name);
    if (!stored.starts_with("hex:")) {
        return stored;
    }
    std::string bytes;
    const std::string_view digits = std::string_view(stored).substr(4);
    if (digits.size() % 2 != 0 || digits.find_first_not_of("0123456789abcdef") != std::string_view::npos) {
        throw_wrong(key, name);
    }
    for (std::size_t i = 0; i < digits.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
    }
    return bytes;
}

std::string from_path(const std::string& bytes) {
    if (is_utf8(bytes) && !bytes.starts_with("hex:")) {
        return bytes;
    }
    std::string stored = "hex:";
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        stored += "0123456789abcdef"[byte >> 4];
        stored += "0123456789abcdef"[byte & 15];
    }
    return stored;
}

}  // namespace member
}  // namespace nodesnap
