// Removes a directory with all below it, whatever its flags forbid. Any depth, in bounded memory but for the names on the way down. Nothing
// is followed; what is mounted or a subvolume below ends it with an Error. One that was begun can be gone on with.
#pragma once

#include <string>

namespace nodesnap {

// `path` is for messages. Nothing happens if there is no such name.
void remove_tree(int directory, const std::string& name, const std::string& path);
// The same of a directory that may be a subvolume itself.
void remove_whole(int directory, const std::string& name, const std::string& path);
// The same of any entry, by its type.
void remove_entry(int directory, const std::string& name, const std::string& path);

}  // namespace nodesnap
