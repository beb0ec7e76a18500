// What must not lie inside what: node directories, repositories, and where a restore goes. Nothing is touched. What can't be seen from this
// host, such as where a network mount's server keeps it, isn't.
#pragma once

#include <optional>
#include <string>

#include "io/target/target.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// Error::refused if the repository lies inside the node directory and isn't excluded (each backup would hold the ones before it), or the
// node directory inside the repository. The node directory must exist.
void refuse_overlap(const Target& repository, const std::string& node_directory, const ExcludeRules& excludes);
// Error::refused if the existing directory `parent`, in which something is to be made, is or lies inside the given repository.
void refuse_inside(const Target& repository, const std::string& parent);
// The repository that `directory` is or lies inside, as far as its path tells; nullopt if there is none. `directory` must exist.
std::optional<std::string> repository_around(const std::string& directory);

}  // namespace nodesnap
