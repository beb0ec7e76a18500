// The mounts of a file system in all mount namespaces that some process lives in, from /proc/*/mountinfo. A namespace that only a file or a
// descriptor keeps alive isn't seen, nor is a mount that is attached nowhere. Any thread. As root; for others only what they may see.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "platform/mount.h"

namespace nodesnap {

struct SeenMount {
    Mount mount;          // as the process sees it: the mount point counts from its root
    Mount parent;         // what it is mounted on; empty if the process doesn't see that
    pid_t pid = 0;        // 0: in our own namespace
    std::string command;  // of that process
};
// Those of the same file system as `like`; each once.
std::vector<SeenMount> mounts_in_all_namespaces(const Mount& like);
// Those, of whatever file system, that are mounted on a directory of that file system.
std::vector<SeenMount> mounts_upon_in_all_namespaces(const Mount& like);

}  // namespace nodesnap
