// Node identity: proves that a repository and a node directory belong together, so that two nodes are never mixed in one repository.
//
// The host remembers in `<state_directory>/nodes.json` which node lives at which (machine id, file system UUID, path); the repository
// remembers the same of its node. The file is replaced atomically and durably under a lock; several processes may resolve at once.
#pragma once

#include <string>

#include "snapshot/repository/repository.h"

namespace nodesnap {

struct NodePlace {
    std::string machine_id;
    std::string file_system_uuid;
    std::string path;  // of the node directory, absolute
    bool operator==(const NodePlace&) const = default;
};

// The identity under which the directory at `place` is backed up to the repository; the caller stores it there with Repository::set_node if
// it differs. A repository without a node gets the host's UUID for the place, or a new one. A repository of another node, or of one that
// isn't known on this host at this place, is an Error::refused unless `adopt` says that it has moved here: then the host's record is
// rewritten.
NodeIdentity resolve_identity(const RepositoryInfo& repository, const std::string& state_directory, const NodePlace& place, bool adopt);

// Whether this host remembers another node at this path, on whatever file system.
bool is_place_of_other_node(const NodeIdentity& node, const std::string& state_directory, const std::string& machine_id,
                            const std::string& path);

inline NodeIdentity resolve_identity(const RepositoryInfo& repository, const std::string& state_directory, const std::string& machine_id,
                                     const std::string& file_system_uuid, const std::string& path, bool adopt) {
    return resolve_identity(repository, state_directory, NodePlace{machine_id, file_system_uuid, path}, adopt);
}

}  // namespace nodesnap
