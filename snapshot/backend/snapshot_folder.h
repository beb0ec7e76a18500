// The folder that snapshots of node directories are kept in: the documented one, which is nodesnap's own, or one that the operator names.
#pragma once

#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/exclude.h"

namespace nodesnap {

inline constexpr const char* kSnapshotFolder = ".nodesnap";

std::string parent_of_path(const std::string& absolute);                       // "/" for "/name"
std::string join_path(const std::string& directory, const std::string& name);  // also of "/"

// Opens nodesnap's own folder `name` in a directory, mode 0700; an empty descriptor if there is none and `make` is false. A symlink there
// isn't followed. Error::refused if it is another user's: it holds what the daemon's user may not see or change. `shown` is for messages.
FileDescriptor open_own_folder(int parent, const std::string& name, const std::string& shown, bool make);

// A snapshot is in use while somebody has its root locked: this does, for as long as `root` is open. A program that dies lets go of it. Who
// only looks whether it is in use, or removes it, has it locked for itself for a moment, which is waited for. False if it is being removed;
// whether it has been is for the caller to see afterwards.
bool lock_for_use(int root);

// What a new file or directory has got from the directory that it was made in (its group, ACLs, compression, no copy-on-write) is taken
// away again: it isn't to come into snapshots.
void inherit_nothing(int fd, unsigned mode, const std::string& shown);

// A directory that the operator names, without symlinks. It may not exist yet, its parent must.
struct NamedFolder {
    std::string path;
    std::string existing;  // it, or its parent
};
NamedFolder named_folder(const std::string& directory);
// Error::refused if the folder is the node directory, or lies in it and isn't excluded: each snapshot would hold the ones before it.
void refuse_folder_inside(const std::string& folder, const std::string& node_directory, const ExcludeRules& excludes);

}  // namespace nodesnap
