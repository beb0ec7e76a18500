// What a directory is, rather than where: to tell whether the one that is found is the one that was meant. Stays the same over restarts and
// renames; a copy has another.
#pragma once

#include <string>

namespace nodesnap {

// Of a directory, not followed if it is a symlink: the file system's UUID, the subvolume, the inode number and, where the file system
// knows it, when it was made. Throws Error if it can't be opened.
std::string directory_identity(const std::string& path);
// The same; empty if there is nothing of that name, or no directory.
std::string identity_if_there(const std::string& path);

}  // namespace nodesnap
