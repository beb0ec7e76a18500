#include "snapshot/command/config_file.h"

#include <sstream>
#include <string_view>

#include "platform/error.h"

namespace nodesnap::command {
namespace {

std::string_view trim(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\r";
    const auto first = text.find_first_not_of(kBlanks);
    return first == std::string_view::npos ? std::string_view{} : text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::string_view unquoted(std::string_view value) {
    const bool quoted = value.size() >= 2 && value.front() == value.back() && (value.front() == '"' || value.front() == '\'');
    return quoted ? value.substr(1, value.size() - 2) : value;
}

}  // namespace

std::vector<ConfigEntry> parse_config(const std::string& text, const std::string& file) {
    std::vector<ConfigEntry> entries;
    std::istringstream lines(text);
    std::string line;
    std::string section;
    for (int number = 1; std::getline(lines, line); ++number) {
        const std::string place = file + ", line " + std::to_string(number);
        const std::string_view content = trim(line);
        if (content.empty() || content.front() == '#' || content.front() == ';') {
            continue;
        }
        if (content.front() == '[' && content.back() == ']') {
            section = trim(content.substr(1, content.size() - 2));
            continue;
        }
        const auto equals = content.find('=');
        const std::string_view name = trim(content.substr(0, equals));
        if (equals == std::string_view::npos || name.empty()) {
            throw Error::usage(place + ": this is neither \"name = value\" nor \"[command]\": " + std::string(content),
                               "write options as on the command line, without the dashes; a flag as \"skip-unreadable = yes\"");
        }
        entries.push_back({section, std::string(name), std::string(unquoted(trim(content.substr(equals + 1)))), place});
    }
    return entries;
}

}  // namespace nodesnap::command
