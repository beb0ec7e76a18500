#include "snapshot/backend/backend.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/lvm.h"
#include "platform/mount.h"
#include "snapshot/backend/btrfs.h"
#include "snapshot/backend/lvm.h"
#include "snapshot/backend/none.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/backend/reflink.h"
#include "snapshot/backend/reflink_place.h"

namespace nodesnap {
namespace {

std::string resolve_node_directory(const std::string& node_directory) {
    const auto status = node_directory.empty() ? std::nullopt : stat_path(node_directory);
    if (!status) {
        throw Error::refused("there is no node directory \"" + node_directory + "\"",
                             "check the path, and that what it lies on is mounted; it is the directory that the daemon keeps its data in");
    }
    if (!S_ISDIR(status->stx_mode)) {
        throw Error::refused("the node directory " + node_directory + " is not a directory");
    }
    return resolve_path(node_directory);
}

// None where files of it can't be cloned, or the clones have no place: `why` tells. Throws what is wrong with a place that was asked for.
std::optional<ReflinkPlace> place_of_clones(const std::string& directory, const ExcludeRules& excludes, const BackendOptions& options,
                                            std::string& why) {
    const std::string on = "the node directory " + directory + " is on " + file_system_of(directory).type;
    std::optional<ReflinkPlace> place;
    try {
        place.emplace(directory, options.snapshot_directory, options.preflight ? &excludes : nullptr);
        // To list, and to remove, on a file system that is full, too.
        why = !options.preflight && stat_path(place->folder()) ? "" : place->why_not();
    } catch (const Error& error) {
        if (options.kind == "reflink") {
            throw;
        }
        why = error.message() + (error.hint().empty() ? "" : " (" + error.hint() + ")");
    }
    if (!why.empty()) {
        why = on + ", which has no snapshots: " + why;
        place.reset();
    }
    return place;
}

std::optional<LvmKind> lvm_kind(const std::string& name) {
    for (const LvmKind kind : {LvmKind::kThin, LvmKind::kClassic}) {
        if (name == name_of(kind)) {
            return kind;
        }
    }
    return std::nullopt;
}

// nullptr where no snapshot of the directory's volume can be taken: `why` tells, of a logical volume.
std::unique_ptr<SnapshotBackend> backend_of_volume(const std::string& directory, const ExcludeRules& excludes,
                                                   const BackendOptions& options, std::string& why) {
    const Mount mount = mount_of(directory);
    if (!lvm::volume_of_device(mount.device) || !options.snapshot_directory.empty()) {
        return nullptr;
    }
    try {
        return make_lvm_backend(std::nullopt, directory, excludes, options, why + "; but its logical volume has (" + mount.source + ")");
    } catch (const Error& error) {
        why += "; nor has its logical volume: " + error.message() + (error.hint().empty() ? "" : " (" + error.hint() + ")");
        return nullptr;
    }
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

std::uint64_t Snapshot::root_ino() const {
    return stat_fd(root()).stx_ino;
}

const std::vector<std::string>& snapshot_kinds() {
    static const std::vector<std::string> kKinds = {"btrfs", "reflink", "lvm-thin", "lvm", "none"};
    return kKinds;
}

std::unique_ptr<SnapshotBackend> choose_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                const BackendOptions& options) {
    const auto& kinds = snapshot_kinds();
    if (options.kind != "auto" && std::find(kinds.begin(), kinds.end(), options.kind) == kinds.end()) {
        throw Error::usage("unknown kind of snapshot \"" + options.kind + "\"", "auto, btrfs, reflink, lvm-thin, lvm or none");
    }
    const std::string directory = resolve_node_directory(node_directory);
    const bool on_btrfs = btrfs::is_btrfs(directory);
    const std::string type = file_system_of(directory).type;
    if (!on_btrfs && options.kind == "btrfs") {
        throw Error::refused("the node directory " + directory + " is on " + type + ", not on btrfs",
                             "move it to btrfs, or stop the daemon and use --snapshot none");
    }
    std::string without;  // why there is no snapshot
    std::optional<ReflinkPlace> place;
    if (options.kind == "reflink" || (options.kind == "auto" && !on_btrfs)) {
        place = place_of_clones(directory, excludes, options, without);
    }
    const bool chosen = options.kind == "auto";
    auto of_volume = chosen && !place && !on_btrfs ? backend_of_volume(directory, excludes, options, without) : nullptr;
    if (!place && !of_volume && (options.kind == "reflink" || (!on_btrfs && options.must_snapshot && !lvm_kind(options.kind)))) {
        throw Error::refused(without,
                             "snapshots need a node directory on btrfs, on a file system that clones files, such as XFS made with -m "
                             "reflink=1, or on an LVM logical volume whose group has free extents");
    }
    if (options.preflight) {
        refuse_nested(directory, excludes);
    }
    if (on_btrfs && (chosen || options.kind == "btrfs")) {
        return make_btrfs_backend(directory, excludes, options, chosen ? "the node directory is on btrfs" : "asked for");
    }
    if (place) {
        return make_reflink_backend(std::move(*place), excludes, options,
                                    chosen ? "the node directory is on " + type + ", which clones files" : "asked for");
    }
    if (const auto kind = lvm_kind(options.kind)) {
        return make_lvm_backend(kind, directory, excludes, options, "asked for");
    }
    if (of_volume) {
        return of_volume;
    }
    return make_none_backend(directory, excludes, options, chosen ? without : "asked for");
}

bool remove_left_snapshot(const std::string& backend, const std::string& path) {
    if (backend == "reflink") {
        return remove_left_reflink_snapshot(path);
    }
    if (lvm_kind(backend)) {
        return remove_left_lvm_snapshot(path);
    }
    return backend != "btrfs" || remove_left_btrfs_snapshot(path);
}

std::string remove_snapshot_elsewhere(const SnapshotProof& proof) {
    if (proof.backend == "reflink") {
        return remove_reflink_snapshot_elsewhere(proof);
    }
    return proof.backend == "btrfs" ? remove_btrfs_snapshot_elsewhere(proof) : "";
}

}  // namespace nodesnap
