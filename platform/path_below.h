// Where a directory lies below another one.
#pragma once

#include <optional>
#include <string>

namespace nodesnap {

// The path of `directory` relative to `ancestor`, "" if they are the same one; nullopt if it doesn't lie there. Both must exist. Seen by
// inode, not by name alone, and through bind mounts: a directory that is mounted elsewhere lies below what holds it, too. What lies where
// on another host, or behind another mount namespace, isn't seen.
std::optional<std::string> path_below(const std::string& directory, const std::string& ancestor);

}  // namespace nodesnap
