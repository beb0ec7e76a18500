// Files from outside the node directory that an operator wants kept with a backup: the daemon's configuration and keys.
//
// Errors: Error::refused, with the remedy, if one isn't there, or if they are too large; Error::system. Threads: any. Privileges: to read
// them.
#pragma once

#include <string>
#include <vector>

#include "snapshot/repository/manifest.h"

namespace nodesnap {

// Of each path: that file (of a symlink what it leads to), or all regular files in and below that directory. Ascending by path.
std::vector<CapturedFile> read_captured(const std::vector<std::string>& paths);

}  // namespace nodesnap
