// OptionSet declares a command's options; Options holds what was given on the command line and in the configuration files, and turns it
// into sizes, rates, durations and times. Everything wrong is an Error::usage that names the option, with a suggestion for a near miss.
#pragma once

#include <boost/program_options.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "snapshot/command/config_file.h"

namespace nodesnap::command {

class OptionSet {
public:
    OptionSet();
    OptionSet& flag(const char* name, const char* text);  // --NAME, or --NAME=no where a configuration file turns it on
    // `argument` is what the help calls its value: RATE, DIR.
    OptionSet& value(const char* name, const char* argument, const char* text);
    OptionSet& list(const char* name, const char* argument, const char* text);  // may be repeated

    const boost::program_options::options_description& description() const { return description_; }
    bool has(const std::string& name) const;
    bool is_flag(const std::string& name) const;
    bool repeatable(const std::string& name) const;
    std::vector<std::string> names() const;

private:
    boost::program_options::options_description description_;
};

class Options {
public:
    // `arguments` are those after the command's name.
    Options(const OptionSet& set, const std::vector<std::string>& arguments);
    // Entries of one configuration file, which must be of this set: what was given before counts, lists are joined. Error::usage if the
    // file sets one twice in a section that isn't a list.
    void add(const OptionSet& set, const std::vector<ConfigEntry>& entries);

    const std::vector<std::string>& positionals() const { return positionals_; }
    bool flag(const char* name) const;
    std::optional<bool> flag_if_given(const char* name) const;  // for one that isn't the same as =no when it isn't given
    bool given(const char* name) const;
    bool given_in_call(const char* name) const;  // not by configuration files alone
    // What was given, as words of a command line, by the options' names; without positional arguments.
    std::vector<std::pair<std::string, std::string>> words() const;
    std::string text(const char* name, const std::string& otherwise = "") const;
    std::vector<std::string> list(const char* name) const;
    // Of --scratch-dir; empty if it isn't given. Error::usage if no temporary file can be made there, whether or not one will be needed.
    std::string scratch_directory() const;
    std::uint64_t rate(const char* name) const;  // bytes per second; 0: no cap
    std::optional<std::chrono::nanoseconds> duration(const char* name) const;
    std::chrono::seconds whole_seconds(const char* name, std::chrono::seconds otherwise) const;  // rounded up
    std::optional<std::int64_t> time(const char* name) const;                                    // nanoseconds since 1970 UTC
    unsigned count(const char* name, unsigned lowest, unsigned highest, unsigned otherwise) const;

private:
    std::string origin(const char* name) const;

    boost::program_options::variables_map values_;
    std::vector<std::string> positionals_;
    std::map<std::string, std::string> places_;  // of options that a configuration file gave
};

// The name among `known` that `given` was probably meant to be; empty if none is near.
std::string nearest(const std::string& given, const std::vector<std::string>& known);
// "did you mean X?", or empty.
std::string suggestion(const std::string& given, const std::vector<std::string>& known, const std::string& prefix = "");

}  // namespace nodesnap::command
