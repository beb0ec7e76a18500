// The mounts that go on showing what a node directory was when another takes its place.
#pragma once

#include <string>
#include <vector>

#include "platform/mount.h"
#include "platform/mount_namespaces.h"

namespace nodesnap {

struct StaleMount {
    std::string shown;    // "/srv/copy", or "/srv/copy in the mount namespace of process 123 (nginx)"
    std::string unmount;  // the command that unmounts it
};

StaleMount described(const SeenMount& seen);
bool at_or_below(const std::string& path, const std::string& directory);
// What lies at a path below the mount point, or at it: as the file system names it, which may be mounted in part.
std::string path_in_file_system(const Mount& mount, const std::string& path);
// Whether unmounting and mounting at `own`, which is mounted on `own_parent`, is done at `other` by the kernel too, in the same instant.
bool follows(const Mount& own, const Mount& own_parent, const SeenMount& other);
Mount parent_of_mount(const Mount& mount);  // as this process sees it; empty if it doesn't
// Error::refused if something is mounted below the node directory: it would stay with what was there before.
void refuse_mounts_below(const std::string& node_directory);
// At most a few of them, for a message.
std::string named_in_message(const std::vector<std::string>& names);

}  // namespace nodesnap
