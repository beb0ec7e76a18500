// The version of the database engine that a node directory belongs to, as its own program tells it: so that a restore isn't opened by an
// older one.
//
// Errors: none but an interruption; what can't be told is told why. Threads: any. Privileges: those that the program needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nodesnap {

struct EngineVersion {
    std::string text;                    // the line that tells it, as it was printed; empty if it isn't known
    std::vector<std::uint64_t> numbers;  // of the first "N.N" or "N.N.N..." in it
    bool known() const { return !numbers.empty(); }
};

// Of the first line that holds a version; what else a program prints doesn't count.
EngineVersion parse_engine_version(const std::string& output);

// Missing numbers count as zeros. Both are known.
bool is_older(const EngineVersion& version, const EngineVersion& than);

struct EngineAnswer {
    EngineVersion version;
    bool not_installed = false;  // there is no such program
    std::string problem;         // why the version isn't known; empty if it is
};

// Runs the command by /bin/sh, for at most half a minute. NODESNAP_DIRECTORY says of which node.
EngineAnswer ask_engine_version(const std::string& command, const std::string& node_directory);

}  // namespace nodesnap
