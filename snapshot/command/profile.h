// Profiles: what is known of an engine, as options that are preset. What the command line or a configuration file says counts before.
//
// Errors: Error::usage. Threads: any.
#pragma once

#include <string>
#include <vector>

#include "snapshot/command/config_file.h"
#include "snapshot/command/options.h"

namespace nodesnap::command {

void declare_profile(OptionSet& options);  // --profile
const std::vector<std::string>& profile_names();
// As those of a configuration file. Error::usage for a name that no profile has.
std::vector<ConfigEntry> profile_entries(const std::string& name);

}  // namespace nodesnap::command
