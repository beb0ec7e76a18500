#include "io/target/object_name.h"

#include <algorithm>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::size_t kComponentLimit = 200;

bool valid_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool valid_component(std::string_view part) {
    return !part.empty() && part.size() <= kComponentLimit && part[0] != '.' && std::all_of(part.begin(), part.end(), valid_character);
}

}  // namespace

bool valid_object_name(std::string_view name) noexcept {
    while (true) {
        const std::size_t slash = name.find('/');
        if (!valid_component(name.substr(0, slash))) {
            return false;
        }
        if (slash == std::string_view::npos) {
            return true;
        }
        name.remove_prefix(slash + 1);
    }
}

void check_object_name(std::string_view name) {
    if (!valid_object_name(name)) {
        throw Error::failed("\"" + std::string(name) + "\" can't be the name of an object");
    }
}

void check_staging_id(std::string_view id) {
    if (!valid_component(id)) {
        throw Error::failed("\"" + std::string(id) + "\" can't name an unfinished object");
    }
}

std::string folder_of(std::string_view name) {
    const std::size_t slash = name.rfind('/');
    return slash == std::string_view::npos ? std::string() : std::string(name.substr(0, slash));
}

}  // namespace nodesnap
