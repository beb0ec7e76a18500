#include "snapshot/command/options.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "io/units.h"
#include "platform/error.h"
#include "snapshot/repository/external_sorter_file.h"

namespace nodesnap::command {
namespace {

namespace po = boost::program_options;
constexpr const char* kPositional = "positional argument";

// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
std::size_t distance(const std::string& a, const std::string& b) {
    std::vector<std::size_t> before_last, last(b.size() + 1), row(b.size() + 1);
    std::iota(last.begin(), last.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = std::min(row[j], before_last[j - 2] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    return last.back();
}

std::string without_dashes(std::string name) {
    return name.erase(0, std::min(name.find_first_not_of('-'), name.size()));
}

// Runs a parser of io/units.h and says which option its text belonged to.
template <typename Parse>
auto parsed(const std::string& origin, const std::string& text, Parse parse) {
    try {
        return parse(text);
    } catch (const Error& error) {
        throw Error::usage(origin + ": " + error.message(), error.hint());
    }
}

// What comes of --path "$UNSET": never what was meant.
void refuse_empty(const std::string& origin, const std::vector<std::string>& values) {
    if (values.size() == 1 && values.front().empty()) {
        throw Error::usage(origin + " is empty", "leave the option out, or give it a value");
    }
}

po::options_description with_positionals(const OptionSet& set) {
    po::options_description all;
    all.add(set.description());
    all.add_options()(kPositional, po::value<std::vector<std::string>>());
    return all;
}

// Takes flags with a value, as in --json=no, out of the arguments: the library knows flags without one only, or would take what stands
// apart for the value.
std::vector<po::option> take_flag_values(const OptionSet& set, std::vector<std::string>& arguments) {
    std::vector<po::option> taken;
    const auto end = std::find(arguments.begin(), arguments.end(), "--");
    const auto rest = std::remove_if(arguments.begin(), end, [&](const std::string& argument) {
        const auto equals = argument.find('=');
        if (!argument.starts_with("--") || equals == std::string::npos || !set.is_flag(argument.substr(2, equals - 2))) {
            return false;
        }
        taken.emplace_back(argument.substr(2, equals - 2), std::vector<std::string>{argument.substr(equals + 1)});
        return true;
    });
    arguments.erase(rest, end);
    return taken;
}

po::parsed_options parse_arguments(const OptionSet& set, const po::options_description& all, std::vector<std::string> arguments) {
    po::positional_options_description positional;
    positional.add(kPositional, -1);
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    try {
        const auto flags = take_flag_values(set, arguments);
        auto parsed = po::command_line_parser(arguments).options(all).positional(positional).style(style).run();
        parsed.options.insert(parsed.options.end(), flags.begin(), flags.end());
        for (const auto& option : parsed.options) {
            if (option.string_key != kPositional) {
                refuse_empty("--" + option.string_key, option.value);
            }
        }
        return parsed;
    } catch (const po::unknown_option& error) {
        const std::string name = error.get_option_name();
        const std::string meant = suggestion(without_dashes(name), set.names(), "--");
        throw Error::usage(
            "unknown option " + name,
            meant.empty()
                ? "if it is an option, then of another command; a name or pattern that begins with '-' goes behind --, as in: -- -rf"
                : meant);
    } catch (const po::error& error) {
        throw Error::usage(error.what());
    }
}

}  // namespace

OptionSet::OptionSet() : description_("Options", 110, 75) {}

OptionSet& OptionSet::flag(const char* name, const char* text) {
    description_.add_options()(name, po::bool_switch(), text);
    return *this;
}

OptionSet& OptionSet::value(const char* name, const char* argument, const char* text) {
    description_.add_options()(name, po::value<std::string>()->value_name(argument), text);
    return *this;
}

OptionSet& OptionSet::list(const char* name, const char* argument, const char* text) {
    description_.add_options()(name, po::value<std::vector<std::string>>()->value_name(argument)->composing(), text);
    return *this;
}

bool OptionSet::has(const std::string& name) const {
    return description_.find_nothrow(name, false) != nullptr;
}

bool OptionSet::is_flag(const std::string& name) const {
    const auto* option = description_.find_nothrow(name, false);
    return option != nullptr && option->semantic()->max_tokens() == 0;
}

bool OptionSet::repeatable(const std::string& name) const {
    const auto* option = description_.find_nothrow(name, false);
    return option != nullptr && option->semantic()->is_composing();
}

std::vector<std::string> OptionSet::names() const {
    std::vector<std::string> names;
    for (const auto& option : description_.options()) {
        names.push_back(option->long_name());
    }
    return names;
}

Options::Options(const OptionSet& set, const std::vector<std::string>& arguments) {
    const po::options_description all = with_positionals(set);
    const po::parsed_options given = parse_arguments(set, all, arguments);
    try {
        po::store(given, values_);
    } catch (const po::error& error) {
        throw Error::usage(error.what());
    }
    if (values_.count(kPositional) != 0) {
        positionals_ = values_[kPositional].as<std::vector<std::string>>();
    }
}

void Options::add(const OptionSet& set, const std::vector<ConfigEntry>& entries) {
    const po::options_description all = with_positionals(set);
    std::map<std::pair<std::string, std::string>, std::string> seen;  // of this file: places by section and name
    for (const ConfigEntry& entry : entries) {
        refuse_empty(entry.place + ": " + entry.name, {entry.value});
        const auto [first, is_first] = seen.try_emplace({entry.section, entry.name}, entry.place);
        if (!is_first && !set.repeatable(entry.name)) {
            throw Error::usage(entry.place + ": " + entry.name + " is set already, in " + first->second, "remove one of the two");
        }
        if (!set.repeatable(entry.name) && given(entry.name.c_str()) && !values_[entry.name].defaulted()) {
            continue;
        }
        po::parsed_options one(&all);
        po::option option(entry.name, {entry.value});
        option.original_tokens = {entry.name, entry.value};
        one.options.push_back(std::move(option));
        try {
            po::store(one, values_);
        } catch (const po::error& error) {
            throw Error::usage(entry.place + ": " + error.what());
        }
        places_.try_emplace(entry.name, entry.place);
    }
}

std::string Options::origin(const char* name) const {
    const auto place = places_.find(name);
    return place == places_.end() ? "--" + std::string(name) : place->second + ": " + name;
}

bool Options::flag(const char* name) const {
    return values_.count(name) != 0 && values_[name].as<bool>();
}
std::optional<bool> Options::flag_if_given(const char* name) const {
    return given(name) && !values_[name].defaulted() ? std::optional(flag(name)) : std::nullopt;
}

bool Options::given(const char* name) const {
    return values_.count(name) != 0;
}

bool Options::given_in_call(const char* name) const {
    return given(name) && places_.count(name) == 0;
}

std::vector<std::pair<std::string, std::string>> Options::words() const {
    std::vector<std::pair<std::string, std::string>> words;
    for (const auto& [name, value] : values_) {
        const std::string option = "--" + name;
        if (value.defaulted() || name == kPositional) {
            continue;
        }
        if (const auto* flag = boost::any_cast<bool>(&value.value())) {
            words.emplace_back(name, *flag ? option : option + "=no");
        } else if (const auto* text = boost::any_cast<std::string>(&value.value())) {
            words.emplace_back(name, option + "=" + *text);
        } else {
            for (const std::string& element : value.as<std::vector<std::string>>()) {
                words.emplace_back(name, option);
                words.back().second.append("=").append(element);
            }
        }
    }
    return words;
}

std::string Options::text(const char* name, const std::string& otherwise) const {
    return given(name) ? values_[name].as<std::string>() : otherwise;
}

std::vector<std::string> Options::list(const char* name) const {
    return given(name) ? values_[name].as<std::vector<std::string>>() : std::vector<std::string>{};
}

std::string Options::scratch_directory() const {
    constexpr const char* kName = "scratch-dir";
    std::string directory = text(kName);
    if (!directory.empty()) {
        try {
            open_unnamed(directory);
        } catch (const Error& error) {
            throw Error::usage(origin(kName) + ": " + error.message(), error.hint());
        }
    }
    return directory;
}

std::uint64_t Options::rate(const char* name) const {
    return given(name) ? parsed(origin(name), text(name), [](const std::string& text) { return parse_rate(text); }) : 0;
}

std::optional<std::chrono::nanoseconds> Options::duration(const char* name) const {
    if (!given(name)) {
        return std::nullopt;
    }
    return parsed(origin(name), text(name), [](const std::string& text) { return parse_duration(text); });
}

std::chrono::seconds Options::whole_seconds(const char* name, std::chrono::seconds otherwise) const {
    const auto value = duration(name);
    return value ? std::chrono::ceil<std::chrono::seconds>(*value) : otherwise;
}

std::optional<std::int64_t> Options::time(const char* name) const {
    if (!given(name)) {
        return std::nullopt;
    }
    return parsed(origin(name), text(name), [](const std::string& text) { return parse_time(text); });
}

unsigned Options::count(const char* name, unsigned lowest, unsigned highest, unsigned otherwise) const {
    if (!given(name)) {
        return otherwise;
    }
    const std::string digits = text(name);
    unsigned value = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (problem != std::errc{} || end != digits.data() + digits.size() || value < lowest || value > highest) {
        throw Error::usage(origin(name) + ": \"" + digits + "\" is not a number from " + std::to_string(lowest) + " to " +
                           std::to_string(highest));
    }
    return value;
}

std::string nearest(const std::string& given, const std::vector<std::string>& known) {
    std::string best;
    std::size_t best_distance = std::min<std::size_t>(3, given.size() / 3 + 1);
    for (const std::string& name : known) {
        const bool beginning = given.size() >= 3 && name.starts_with(given);
        const std::size_t away = beginning ? 0 : distance(given, name);
        if (away < best_distance || (away == best_distance && best.empty())) {
            best = name;
            best_distance = away;
        }
    }
    return best;
}

std::string suggestion(const std::string& given, const std::vector<std::string>& known, const std::string& prefix) {
    const std::string name = nearest(given, known);
    return name.empty() ? "" : "did you mean " + prefix + name + "?";
}

}  // namespace nodesnap::command
