#include "snapshot/backend/tree_rollback.h"

#include <fcntl.h>
#include <linux/fs.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "io/units.h"
#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/inode_flags.h"
#include "platform/mount_namespaces.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/clone_tree.h"
#include "snapshot/backend/revival.h"
#include "snapshot/backend/revival_needs.h"
#include "snapshot/backend/rollback_work.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/backend/tree_place.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr const char* kNotTold = ".";  // where the directory lies: who ends it knows that
constexpr const char* kDelta = "restore a backup with nodesnap restore --delta, which changes only what differs";

}  // namespace

// The tree that the new one is made of; locked, so that nobody removes it meanwhile.
struct TreeRollback::Source {
    FileDescriptor directory, tree;
    std::vector<std::string> left_out;
    RevivalSource needs;
    std::unique_ptr<const LinkIndex> own;
    std::unique_ptr<const LinkIndexes> all;
};

TreeRollback::TreeRollback(const std::string& node_directory, const TreeRollbackOptions& options)
    : node_directory_(node_directory),
      options_(options),
      naming_(node_directory),
      immutable_(options.immutable),
      file_system_uuid_(file_system_uuid_of(node_directory)) {
    refuse_layout();
    if (options_.kind == "btrfs") {
        const BtrfsPlace place(node_directory_, options_.snapshot_directory, nullptr);
        folder_ = place.folder();
        inside_ = place.inside();
        snapshots_ = folder_.starts_with('/') ? place.open_folder(false) : FileDescriptor();
    } else {
        const TreePlace place(node_directory_, options_.snapshot_directory, nullptr, true);
        folder_ = place.folder();
        snapshots_ = place.open_folder(false);
        clones_ = place.why_no_clones().empty();
    }
    mount_ = mount_of(node_directory_);
    refuse_node();
    refuse_folder();
    refuse_mounts_below(node_directory_);
    if (snapshots_) {
        store_.emplace(open_at(snapshots_.get(), ".", O_RDONLY | O_DIRECTORY), folder_);
    }
}

TreeRollback::~TreeRollback() {
    if (!prepared_ || exchanged_) {
        return;
    }
    try {
        present_.reset();
        store_->remove_in(work_.get(), kRollbackContent, folder_);
        remove_rollback_work(snapshots_.get(), naming_);
    } catch (const Error&) {
        // Announced in the header: finish_tree_rollback() removes what is left.
    }
}

TreeRollback::Identity TreeRollback::identity_of(int directory) {
    const FileStatus status = stat_fd(directory);
    return {status.stx_ino,
            inode_generation(directory),
            {status.stx_atime.tv_sec, status.stx_atime.tv_nsec, status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec}};
}

void TreeRollback::refuse_layout() const {
    if (is_mount_root(node_directory_)) {
        throw Error::refused("the node directory " + node_directory_ + " is the root of a mount, in the place of which nothing can be put",
                             "move the node into a directory of that file system, or " + std::string(kDelta) + " (with --in-place)");
    }
    if (btrfs::is_subvolume(open_path(node_directory_, O_RDONLY | O_DIRECTORY).get())) {
        throw Error::refused("the node directory " + node_directory_ + " is a subvolume, in the place of which no tree of clones is put",
                             "take its snapshots, and roll back, without --snapshot reflink");
    }
    const auto subvolumes = btrfs::is_btrfs(node_directory_) ? btrfs::nested_subvolumes_below(node_directory_) : std::vector<std::string>();
    if (!subvolumes.empty()) {
        throw Error::refused("the node directory " + node_directory_ +
                                 " holds nested subvolumes, which no snapshot of it includes: " + named_in_message(subvolumes),
                             "move them out of it (mv), and back in afterwards");
    }
}

void TreeRollback::refuse_node() const {
    if (mount_.read_only) {
        throw Error::refused("the node directory " + node_directory_ + " is on a read-only file system", "mount it for writing");
    }
    const FileDescriptor node = open_path(node_directory_, O_RDONLY | O_DIRECTORY);
    constexpr std::uint32_t kSeal = FS_IMMUTABLE_FL | FS_APPEND_FL;
    constexpr std::uint32_t kNotHeld = FS_ENCRYPT_FL | FS_CASEFOLD_FL;
    const std::uint32_t flags = inode_flags(node.get(), node_directory_).value_or(0);
    if ((flags & kNotHeld) != 0) {
        throw Error::refused("the node directory " + node_directory_ +
                                 " is encrypted by its file system, or tells no upper from lower case, "
                                 "which a snapshot of it doesn't hold",
                             kDelta);
    }
    if ((flags & kSeal) != 0) {
        throw Error::refused("the node directory " + node_directory_ + " is immutable or append-only, so that it can't be moved",
                             "take that off it first: chattr -i -a " + shell_word(node_directory_));
    }
    if (const std::uint32_t project = project_id(node.get()); project != 0) {
        throw Error::refused("the node directory " + node_directory_ + " belongs to project " + std::to_string(project) +
                                 " of its file system's quotas, which a snapshot of it doesn't hold",
                             std::string("take it out of the project for as long as it is rolled back, or ") + kDelta);
    }
}

// A name can't be moved from one mount, or subvolume, to another.
void TreeRollback::refuse_folder() const {
    if (!snapshots_ && folder_.starts_with('/')) {
        return;  // there are no snapshots
    }
    const std::string parent = parent_of_path(node_directory_);
    const FileDescriptor above = open_path(parent, O_RDONLY | O_DIRECTORY);
    if (!snapshots_ || mount_of(folder_).id != mount_of(parent).id ||
        device_of(stat_fd(above.get())) != device_of(stat_fd(snapshots_.get()))) {
        throw Error::refused("the node directory " + node_directory_ + " and its snapshots in " + folder_ +
                                 " are under different mounts, or in different subvolumes, between which nothing can be exchanged",
                             "keep the snapshots in a directory of the same (--snapshot-dir), or " + std::string(kDelta));
    }
}

std::vector<StaleMount> TreeRollback::stale_mounts() const {
    // After the exchange what was replaced is called otherwise.
    const std::string shown =
        exchanged_ ? path_in_file_system(mount_of(folder_), replaced_path_) : path_in_file_system(mount_, node_directory_);
    std::vector<StaleMount> stale;
    for (const SeenMount& seen : mounts_in_all_namespaces(mount_)) {
        if (at_or_below(seen.mount.root, shown)) {
            stale.push_back(described(seen));
        }
    }
    for (const SeenMount& seen : mounts_upon_in_all_namespaces(mount_)) {
        if (at_or_below(path_in_file_system(seen.parent, seen.mount.mount_point), shown)) {
            stale.push_back(described(seen));
        }
    }
    return stale;
}

TreeRollback::Source TreeRollback::open_source(const SnapshotEntry& snapshot) const {
    const std::string on_disk = naming_.on_disk(snapshot.name, snapshot.temporary);
    const auto gone = [&](const std::string& why) {
        return Error::refused("the snapshot \"" + snapshot.name + "\" of " + node_directory_ + " " + why, "see nodesnap snapshot list");
    };
    Source source;
    auto stored = store_ ? store_->open(on_disk) : std::nullopt;
    const bool is_subvolume = !stored && options_.kind == "btrfs";
    if (is_subvolume && snapshots_) {
        source.directory.reset(std::max(try_open_long(snapshots_.get(), on_disk, kDirectory), -1));
    } else if (stored) {
        source.directory = std::move(stored->directory);
    }
    if (!source.directory || !lock_for_use(source.directory.get()) || !store_->is_still_there(on_disk, source.directory.get())) {
        throw gone("is gone, or is being removed");
    }
    if (is_subvolume && (!btrfs::is_subvolume(source.directory.get()) || !btrfs::subvolume_info(source.directory.get()).read_only)) {
        throw gone("is no snapshot any more: it was made writable");
    }
    source.tree.reset(std::max(try_open_long(source.directory.get(), is_subvolume ? inside_ : kTreeName, kDirectory), -1));
    if (!source.tree || (stored && !is_tree_of(source.tree.get(), stored->record))) {
        throw gone("isn't what it was: its tree is missing, or a copy");
    }
    source.own = std::make_unique<const LinkIndex>(source.directory.get());
    source.all = std::make_unique<const LinkIndexes>(store_->links());
    source.left_out = stored ? stored->record.excludes : std::vector<std::string>();
    const bool copies = !clones_ || source.own->exists();
    const bool records = stored && stored->record.kind != kKeptTree;
    source.needs = {source.tree.get(), records ? Origins::kRecorded : Origins::kOwn, copies, source.own.get(), source.all.get(),
                    &immutable_};
    return source;
}

void TreeRollback::inspect(const SnapshotEntry& snapshot) {
    const Source source = open_source(snapshot);
    left_out_ = source.left_out;
    const std::uint64_t needed = bytes_needed(source.needs);
    const std::uint64_t free = file_system_of(node_directory_).free_bytes;
    if (needed > free) {
        throw Error::refused("a directory made of the snapshot \"" + snapshot.name + "\" takes about " + human_bytes(needed) +
                                 " of its own, and there are only " + human_bytes(free) + " free on the file system of " + node_directory_,
                             "make room first, by removing snapshots that aren't needed (nodesnap snapshot list)" +
                                 std::string(source.needs.copies && !source.own->exists()
                                                 ? ", or name the files that are never written to again, which needn't be copied "
                                                   "(--immutable)"
                                                 : ""));
    }
}

void TreeRollback::prepare(const SnapshotEntry& snapshot, const std::string& kept) {
    const Source source = open_source(snapshot);
    live_ = identity_of(open_path(node_directory_, O_RDONLY | O_DIRECTORY).get());
    kept_ = naming_.on_disk(kept, false);
    work_ = make_rollback_work(snapshots_.get(), naming_, node_directory_);
    prepared_ = true;
    note_rollback(work_.get(), {kNotTold, snapshot.name, kept});
    fault::step("rollback.begun");
    replaced_path_ = folder_ + "/" + naming_.rollback_directory() + "/" + kRollbackContent + "/" + kTreeName;
    present_ = TreeStore::make_parts(work_.get(), kRollbackContent, folder_ + "/" + naming_.rollback_directory());
    make_tree(source);
    fault::step("rollback.tree-made");
    record(kept);
    // All of the new tree is durable before anything of it is seen; and little is left to flush when the daemon is stopped.
    sync_file_system(present_.get(), folder_);
    fault::step("rollback.cloned");
}

void TreeRollback::make_tree(const Source& source) {
    const FileDescriptor tree = open_at(present_.get(), kTreeName, kDirectory);
    const FileDescriptor links = open_at(present_.get(), kLinksName, kDirectory);
    const auto inodes = source.needs.copies
                            ? std::make_unique<LinkRevival>(links.get(), source.needs.origins, *source.own, *source.all, immutable_)
                            : std::make_unique<Revival>(links.get(), source.needs.origins);
    clone_tree(source.tree.get(), folder_, tree.get(), *inodes, ExcludeRules(), {});
    inodes->finish();
    has_sealed_root_ = inodes->has_sealed_root();
    if (const int failed = entry::remove_directory(present_.get(), kLinksName); failed != 0) {
        throw Error::system("remove the directory", kLinksName, failed);
    }
    made_ = identity_of(tree.get());
}

void TreeRollback::record(const std::string& kept) {
    TreeRecord record;
    record.kind = kKeptTree;
    record.id = Uuid::random();
    record.name = kept_;
    record.node_directory = node_directory_;
    record.file_system_uuid = file_system_uuid_;
    record.root_ino = record.tree_ino = live_.ino;
    record.tree_generation = live_.generation;
    record.taken_ns = rolled_back_at(kept).value_or(utc_now());
    TreeStore::write_record(present_.get(), record, folder_);
}

bool TreeRollback::shows(int directory, std::uint64_t ino, std::uint64_t generation) const {
    return directory >= 0 && stat_fd(directory).stx_ino == ino && inode_generation(directory) == generation &&
           device_of(stat_fd(directory)) == device_of(stat_fd(snapshots_.get()));
}

void TreeRollback::exchange() {
    const std::string parent = parent_of_path(node_directory_);
    const FileDescriptor above = open_path(parent, O_RDONLY | O_DIRECTORY);
    const FileDescriptor node(std::max(try_open_long(above.get(), node_name(), kDirectory), -1));
    const FileDescriptor made = open_at(present_.get(), kTreeName, kDirectory);
    if (!shows(node.get(), live_.ino, live_.generation)) {
        throw Error::failed("the node directory " + node_directory_ + " was replaced by another meanwhile", "look at it, and try again");
    }
    live_ = identity_of(node.get());
    // What was written to it until now is kept whole.
    sync_file_system(node.get(), node_directory_);
    rename_exchange(present_.get(), kTreeName, above.get(), node_name());
    exchanged_ = true;
    fault::step("rollback.exchanged");
    // XFS takes the exchange for a change of both.
    entry::set_times(made.get(), made_.times);
    entry::set_times(node.get(), live_.times);
    make_exchange_durable(present_.get(), above.get(), node_directory_);
    fault::step("rollback.committed");
}

std::string TreeRollback::keep() {
    keep_replaced_tree(*store_, work_.get(), kept_);
    replaced_path_ = folder_ + "/" + kept_ + "/" + kTreeName;
    remove_rollback_work(snapshots_.get(), naming_);
    fault::step("rollback.tidied");
    return folder_ + "/" + kept_;
}

void TreeRollback::require_shown() const {
    const FileDescriptor shown = open_path(node_directory_, O_RDONLY | O_DIRECTORY);
    if (!shows(shown.get(), made_.ino, made_.generation)) {
        throw Error::failed("the path " + node_directory_ + " doesn't show the directory that was made of the snapshot",
                            "look at what is mounted there");
    }
}

}  // namespace nodesnap
