// The configuration file: an INI file with the names of the long options.
//
//     # applies to every command that has the option
//     wait-lock = 10m
//     [backup]
//     limit = 200M
//     exclude = *.tmp
//     exclude = cache/tmp
//
// A line that begins with '#' or ';' is a comment; everything after '=' is the value, without the blanks around it. A pair of quotes
// around all of it, "..." or '...', is none of it: who is used to a shell writes exclude = "*.tmp".
#pragma once

#include <string>
#include <vector>

namespace nodesnap::command {

struct ConfigEntry {
    std::string section;  // a command's name, or empty
    std::string name;
    std::string value;
    std::string place;  // "FILE, line 7"
};

// Error::usage naming file and line for what isn't a comment, a section or "name = value".
std::vector<ConfigEntry> parse_config(const std::string& text, const std::string& file);

}  // namespace nodesnap::command
