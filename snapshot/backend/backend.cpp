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
#include "snapshot/backend/hardlink.h"
#include "snapshot/backend/lvm.h"
#include "snapshot/backend/none.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/backend/reflink.h"
#include "snapshot/backend/tree_backend.h"
#include "snapshot/backend/tree_place.h"

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

// None where snapshots of that kind can't be made: `why` tells. Throws what is wrong with a place that was asked for.
std::optional<TreePlace> find_place(const std::string& kind, const std::string& directory, const ExcludeRules& excludes,
                                    const BackendOptions& options, std::string& why) {
    std::optional<TreePlace> place;
    try {
        const bool must_last = !options.preflight || options.must_snapshot || options.must_last;
        place.emplace(directory, options.snapshot_directory, options.preflight ? &excludes : nullptr, must_last);
        // To list, and to remove, on a file system that is full, too.
        const bool only_lists = !options.preflight && stat_path(place->folder());
        why = only_lists ? "" : place->why_not_in_memory();
        if (!only_lists && why.empty()) {
            why = kind == "reflink" ? place->why_no_clones() : place->why_no_links();
        }
    } catch (const Error& error) {
        if (options.kind == kind) {
            throw;
        }
        why = error.message() + (error.hint().empty() ? "" : " (" + error.hint() + ")");
    }
    if (!why.empty()) {
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

// Why no clones can be made of it now, although files can be cloned; "" if they can.
std::string why_not_cloned_now(const std::string& directory, const ExcludeRules& excludes, const BackendOptions& options) {
    if (!options.preflight || options.held || options.accept_inconsistent) {
        return "";
    }
    const auto obstacle = find_obstacle(directory, excludes, "");
    return obstacle ? "files can only be cloned while nobody writes to them, and " + obstacle->message : "";
}

// Of trees of links, of a node directory that isn't on btrfs.
std::optional<TreePlace> place_of_links(const std::string& directory, const ExcludeRules& excludes, const BackendOptions& options,
                                        std::string& why) {
    if (options.preflight && options.immutable.empty()) {
        why = "it isn't known which files are never written to again (--immutable, or a --profile that names them)";
        return std::nullopt;
    }
    if (const std::string type = file_system_of(directory).type; type != "ext4" && type != "xfs") {
        why = "it isn't known of " + type + " that every write shows in the times of a file";
        return std::nullopt;
    }
    if (options.kind == "auto" && !options.held) {
        why = "files can only be linked and copied while nobody writes to them (--hold, or --snapshot hardlink for a stopped daemon)";
        return std::nullopt;
    }
    return find_place("hardlink", directory, excludes, options, why);
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
    static const std::vector<std::string> kKinds = {"btrfs", "reflink", "lvm-thin", "lvm", "hardlink", "none"};
    return kKinds;
}

std::unique_ptr<SnapshotBackend> choose_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                const BackendOptions& options) {
    const auto& kinds = snapshot_kinds();
    if (options.kind != "auto" && std::find(kinds.begin(), kinds.end(), options.kind) == kinds.end()) {
        throw Error::usage("unknown kind of snapshot \"" + options.kind + "\"", "auto, btrfs, reflink, lvm-thin, lvm, hardlink or none");
    }
    const std::string directory = resolve_node_directory(node_directory);
    const bool on_btrfs = btrfs::is_btrfs(directory);
    const std::string type = file_system_of(directory).type;
    if (!on_btrfs && options.kind == "btrfs") {
        throw Error::refused("the node directory " + directory + " is on " + type + ", not on btrfs",
                             "leave --snapshot out, so that the best is taken that there is; `nodesnap doctor` tells what that is");
    }
    if (on_btrfs && options.kind == "hardlink") {
        throw Error::refused("the node directory " + directory + " is on btrfs, which has snapshots", "use --snapshot btrfs, or auto");
    }
    const bool chosen = options.kind == "auto";
    std::string no_clones, no_links;  // why
    std::optional<TreePlace> clones, links;
    if (options.kind == "reflink" || (chosen && !on_btrfs)) {
        clones = find_place("reflink", directory, excludes, options, no_clones);
    }
    // Of clones without names nothing is left for the next backup: all else is better.
    const bool lasting_clones = clones && !clones->in_memory();
    if (clones && !lasting_clones) {
        no_clones = "at the root of a mount files can be cloned only without names, so that the next backup has none to go on from";
    }
    const std::string on = "the node directory " + directory + " is on " + type;
    std::string without = on + ", which has no snapshots: " + no_clones;
    std::unique_ptr<SnapshotBackend> of_volume;
    if (chosen && !on_btrfs && !lasting_clones) {
        of_volume = backend_of_volume(directory, excludes, options, without);
    } else if (chosen && clones) {
        if (std::string not_now = why_not_cloned_now(directory, excludes, options); !not_now.empty()) {
            of_volume = backend_of_volume(directory, excludes, options, not_now);
        }
    }
    if (options.kind == "hardlink" || (chosen && !on_btrfs && !lasting_clones && !of_volume)) {
        links = place_of_links(directory, excludes, options, no_links);
    }
    if (links) {
        clones.reset();
    }
    if (options.kind == "hardlink" && !links) {
        throw Error::refused("no snapshot can be made of links of " + directory + ": " + no_links,
                             "--immutable '*.sst' names files that are never written to again, as --profile rocksdb does; without "
                             "such, or where nothing can be linked, --snapshot none reads the directory itself");
    }
    if (!clones && !links && !of_volume && (options.kind == "reflink" || (!on_btrfs && options.must_snapshot && !lvm_kind(options.kind)))) {
        throw Error::refused(without,
                             "snapshots need a node directory on btrfs, on a file system that clones files, such as XFS made with -m "
                             "reflink=1, or on an LVM logical volume whose group has free extents; or --snapshot hardlink, with "
                             "--immutable");
    }
    if (options.preflight) {
        refuse_nested(directory, excludes);
    }
    if (on_btrfs && (chosen || options.kind == "btrfs")) {
        return make_btrfs_backend(directory, excludes, options, chosen ? "the node directory is on btrfs" : "asked for");
    }
    if (clones && !of_volume) {
        return make_reflink_backend(std::move(*clones), excludes, options,
                                    !chosen          ? "asked for"
                                    : lasting_clones ? "the node directory is on " + type + ", which clones files"
                                                     : on + ", and " + no_clones);
    }
    if (const auto kind = lvm_kind(options.kind)) {
        return make_lvm_backend(kind, directory, excludes, options, "asked for");
    }
    if (of_volume) {
        return of_volume;
    }
    if (links) {
        return make_hardlink_backend(
            std::move(*links), excludes, options,
            chosen ? on + ", where no clones can be had that last, and it is known which files are never written to again" : "asked for");
    }
    return make_none_backend(directory, excludes, options, chosen ? without + (no_links.empty() ? "" : "; and " + no_links) : "asked for");
}

bool remove_left_snapshot(const std::string& backend, const std::string& path) {
    if (backend == "reflink" || backend == "hardlink") {
        return remove_left_tree_snapshot(path);
    }
    if (lvm_kind(backend)) {
        return remove_left_lvm_snapshot(path);
    }
    return backend != "btrfs" || remove_left_btrfs_snapshot(path);
}

std::string remove_snapshot_elsewhere(const SnapshotProof& proof) {
    if (proof.backend == "reflink" || proof.backend == "hardlink") {
        return remove_tree_snapshot_elsewhere(proof);
    }
    if (lvm_kind(proof.backend)) {
        return remove_lvm_snapshot_elsewhere(proof);
    }
    return proof.backend == "btrfs" ? remove_btrfs_snapshot_elsewhere(proof) : "";
}

}  // namespace nodesnap
