#include "snapshot/backend/backend.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "snapshot/backend/btrfs.h"
#include "snapshot/backend/none.h"
#include "snapshot/backend/preflight.h"

namespace nodesnap {
namespace {

std::string resolve_node_directory(const std::string& node_directory) {
    const auto status = node_directory.empty() ? std::nullopt : stat_path(node_directory);
    if (!status) {
        throw Error::refused("there is no node directory \"" + node_directory + "\"");
    }
    if (!S_ISDIR(status->stx_mode)) {
        throw Error::refused("the node directory " + node_directory + " is not a directory");
    }
    return resolve_path(node_directory);
}

}  // namespace

std::string to_string(Layout layout) {
    switch (layout) {
        case Layout::kFolder:
            return "folder";
        case Layout::kSubvolume:
            return "subvolume";
        case Layout::kMountRoot:
            return "mounted subvolume";
    }
    return "unknown";
}

std::unique_ptr<SnapshotBackend> choose_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                const BackendOptions& options) {
    if (options.kind != "auto" && options.kind != "btrfs" && options.kind != "none") {
        throw Error::usage("unknown kind of snapshot \"" + options.kind + "\"", "auto, btrfs or none");
    }
    const std::string directory = resolve_node_directory(node_directory);
    const bool on_btrfs = btrfs::is_btrfs(directory);
    const std::string type = file_system_of(directory).type;
    if (!on_btrfs && options.must_snapshot) {
        throw Error::refused("the node directory " + directory + " is on " + type + ", which has no snapshots",
                             "snapshots need a node directory on btrfs");
    }
    if (!on_btrfs && options.kind == "btrfs") {
        throw Error::refused("the node directory " + directory + " is on " + type + ", not on btrfs",
                             "move it to btrfs, or stop the daemon and use --snapshot none");
    }
    if (options.preflight) {
        refuse_nested(directory, excludes);
    }
    const bool chosen = options.kind == "auto";
    if (on_btrfs && options.kind != "none") {
        return make_btrfs_backend(directory, excludes, options, chosen ? "the node directory is on btrfs" : "asked for");
    }
    return make_none_backend(directory, excludes, options,
                             chosen ? "the node directory is on " + type + ", which has no snapshots" : "asked for");
}

bool remove_left_snapshot(const std::string& backend, const std::string& path) {
    return backend != "btrfs" || remove_left_btrfs_snapshot(path);
}

std::string remove_snapshot_elsewhere(const SnapshotProof& proof) {
    return proof.backend == "btrfs" ? remove_btrfs_snapshot_elsewhere(proof) : "";
}

}  // namespace nodesnap
