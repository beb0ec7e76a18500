// nodesnap snapshot trim, and what trim and list tell of each snapshot.
#pragma once

#include <string>
#include <vector>

#include "snapshot/command/command.h"
#include "snapshot/trim.h"

namespace nodesnap::command {

void declare_trim(OptionSet& options);
// What the options ask for. Error::usage if they bound nothing; all of them are refused with other actions.
TrimOptions read_trim_options(const Options& options, const std::string& node_directory);
// What the repositories that --repository names say; a warning of each that can't be read.
std::vector<KnownRepository> known_repositories(Call& call);
void refuse_trim_options(const Options& options, const std::string& action);
ExitStatus trim(Call& call, SnapshotBackend& backend, const TrimOptions& options, const std::string& node_directory);

void write_snapshot(JsonWriter& document, const ClassifiedSnapshot& snapshot);  // its members
std::string describe_role(const ClassifiedSnapshot& snapshot);                  // "parent of the next backup into repository 0a1b2c3d"

}  // namespace nodesnap::command
