// Preflight: what a backup of the node directory would silently miss.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "platform/processes.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// Error::refused, naming each with the remedy, if subvolumes or mounts lie below the node directory that the rules don't exclude: a
// snapshot holds nothing of them, and reading on into them would mix file systems.
void refuse_nested(const std::string& node_directory, const ExcludeRules& excludes);

// Error::refused if the node directory holds something, and the rules leave nothing of it: what would come of it is a good backup of
// nothing, which takes the place of those that hold something.
void refuse_nothing_left(const std::string& node_directory, const ExcludeRules& excludes);

// What keeps a directory from being read, or cloned, as one state.
struct Obstacle {
    std::string message;
    std::string hint;
};
// Somebody who writes to it, or perhaps does; nullopt if nobody can. `remedy`: what the operator can do about a writer.
std::optional<Obstacle> find_obstacle(const std::string& node_directory, const ExcludeRules& excludes, const std::string& remedy);

// Who writes, or could, to what isn't excluded; not the processes for which `left_out` is true. `hidden`: how many can't be told of.
std::vector<DirectoryUser> writers_of(const std::string& node_directory, const ExcludeRules& excludes, std::size_t* hidden,
                                      const std::function<bool(pid_t)>& left_out = {});
// "mdb (pid 12) has /node/data open for writing"
std::string describe_writer(const DirectoryUser& writer);

}  // namespace nodesnap
