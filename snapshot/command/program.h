// run_program: the whole program but for the process itself. The one place that catches Error: says what failed and what to do on stderr
// (with --json as a document on stdout too) and gives the exit status.
#pragma once

#include <string>
#include <vector>

#include "snapshot/command/command.h"

namespace nodesnap::command {

inline constexpr const char* kSystemConfiguration = "/etc/nodesnap/nodesnap.conf";

// What a command is given, without its name. Of an option that is set in several places, the command line counts first, then --config, then
// the system's file, then the profile.
Options read_options(const Command& command, const std::vector<std::string>& arguments,
                     const std::string& system_configuration = kSystemConfiguration);

// `arguments` without the program's name. `system_configuration` is read if it exists.
int run_program(const std::vector<std::string>& arguments, Streams& streams,
                const std::string& system_configuration = kSystemConfiguration);

}  // namespace nodesnap::command
