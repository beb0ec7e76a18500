#include "snapshot/backend/btrfs_rollback.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/mount_exchange.h"
#include "platform/mount_namespaces.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/rollback_work.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

bool has_option(const std::string& options, const std::string& prefix) {
    std::istringstream stream(options);
    for (std::string option; std::getline(stream, option, ',');) {
        if (option.starts_with(prefix)) {
            return true;
        }
    }
    return false;
}

}  // namespace

BtrfsRollback::BtrfsRollback(const std::string& node_directory, const std::string& snapshot_directory, const std::string& fstab)
    : node_directory_(node_directory), snapshot_directory_(snapshot_directory), naming_(node_directory) {
    // Nothing of it is kept open: the node directory's mount must not be in use by us.
    const BtrfsPlace place(node_directory, snapshot_directory, nullptr);
    layout_ = place.layout();
    folder_ = place.folder();
    live_ = btrfs::subvolume_info(place.subvolume());
    mount_ = mount_of(node_directory);
    const std::string delta = "restore a backup with nodesnap restore --delta, which changes only what differs";
    if (!place.inside().empty()) {
        throw Error::refused(
            "the node directory " + node_directory +
                " is a folder of a larger subvolume, which can't be exchanged for a snapshot without all else that is in it",
            "make it a subvolume of its own (stop the daemon, btrfs subvolume create, cp -a --reflink=always), or " + delta);
    }
    if (live_.id == btrfs::kTopLevelId) {
        throw Error::refused("the node directory " + node_directory +
                                 " is the top level of its btrfs (subvolume 5), in the place of which nothing can be put",
                             "move the node into a subvolume and mount that, or " + delta + " (with --in-place)");
    }
    if (mount_.read_only) {
        throw Error::refused("the node directory " + node_directory + " is on a read-only file system", "mount it for writing");
    }
    if (live_.read_only) {
        throw Error::refused("the node directory " + node_directory + " is a read-only subvolume",
                             "make it writable first: btrfs property set " + shell_word(node_directory) + " ro false");
    }
    top_level_ = btrfs::open_top_level(node_directory);
    top_ = open_at(top_level_.get(), ".", O_RDONLY | O_DIRECTORY);
    seat_ = btrfs::subvolume_path(top_.get(), live_.id);
    refuse_nested();
    refuse_by_number(fstab);
}

BtrfsRollback::~BtrfsRollback() {
    if (!prepared_ || exchanged_) {
        return;
    }
    try {
        discard_clone(work_.get(), folder_);
        remove_rollback_work(snapshots_.get(), naming_);
    } catch (const Error&) {
        // Announced in the header: finish_btrfs_rollback() removes what is left.
    }
}

// They would stay where they are: with what was there before.
void BtrfsRollback::refuse_nested() const {
    const auto subvolumes = btrfs::nested_subvolumes_below(node_directory_);
    if (!subvolumes.empty()) {
        throw Error::refused("the node directory " + node_directory_ +
                                 " holds nested subvolumes, which no snapshot of it includes: " + named_in_message(subvolumes),
                             "move them out of it (mv), and back in afterwards");
    }
    refuse_mounts_below(node_directory_);
}

// The clone has the name, and another number.
void BtrfsRollback::refuse_by_number(const std::string& fstab) const {
    if (btrfs::default_subvolume(top_.get()) == live_.id) {
        throw Error::refused("the node directory " + node_directory_ +
                                 " is its file system's default subvolume, which mounts without subvol= find by its number",
                             "mount it by its name (subvol=" + seat_ +
                                 "), and set the default to the top level: btrfs subvolume set-default 5 " + shell_word(node_directory_));
    }
    std::istringstream lines(read_small_file(fstab).value_or(""));
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::string device, mount_point, type, options;
        fields >> device >> mount_point >> type >> options;
        if (!device.starts_with('#') && type == "btrfs" && mount_point == node_directory_ && has_option(options, "subvolid=")) {
            throw Error::refused(fstab + " mounts the node directory " + node_directory_ +
                                     " by its number (subvolid=), which at the next boot would show what it is now again",
                                 "write subvol=" + seat_ + " there instead");
        }
    }
}

std::vector<StaleMount> BtrfsRollback::stale_mounts() const {
    const bool remounted = layout_ == Layout::kMountRoot;
    const Mount own_parent = parent_of_mount(mount_);
    // After the exchange what was replaced is called otherwise.
    const std::string shown = "/" + btrfs::subvolume_path(top_.get(), live_.id);
    std::vector<StaleMount> stale;
    for (const SeenMount& seen : mounts_in_all_namespaces(mount_)) {
        const bool own = remounted && !exchanged_ && (seen.mount.id == mount_.id || follows(mount_, own_parent, seen));
        if (!own && at_or_below(seen.mount.root, shown)) {
            stale.push_back(described(seen));
        }
    }
    return stale;
}

bool BtrfsRollback::is_used_by_kernel() const {
    return layout_ == Layout::kMountRoot && mount_in_use(node_directory_);
}

FileDescriptor BtrfsRollback::open_seat() const {
    const std::size_t slash = seat_.rfind('/');
    return open_long(top_level_.get(), slash == std::string::npos ? "." : seat_.substr(0, slash), O_RDONLY | O_DIRECTORY);
}

void BtrfsRollback::prepare(const SnapshotEntry& snapshot, const std::string& kept) {
    kept_ = naming_.on_disk(kept, false);
    snapshots_ = open_snapshots_from_top(top_level_.get(), node_directory_, snapshot_directory_);
    work_ = make_rollback_work(snapshots_.get(), naming_, node_directory_);
    prepared_ = true;
    note_rollback(work_.get(), {seat_, snapshot.name, kept});
    fault::step("rollback.begun");
    make_clone(snapshot);
    fault::step("rollback.cloned");
}

void BtrfsRollback::make_clone(const SnapshotEntry& snapshot) {
    const std::string on_disk = naming_.on_disk(snapshot.name, snapshot.temporary);
    const auto gone = [&](const std::string& why) {
        return Error::refused("the snapshot \"" + snapshot.name + "\" of " + node_directory_ + " " + why, "see nodesnap snapshot list");
    };
    const FileDescriptor source(std::max(try_open_long(snapshots_.get(), on_disk, O_RDONLY | O_DIRECTORY), -1));
    if (!source || !btrfs::is_subvolume(source.get()) || !lock_for_use(source.get())) {
        throw gone("is gone, or is being removed");
    }
    if (!btrfs::subvolume_info(source.get()).read_only) {
        throw gone("is no snapshot any more: it was made writable");
    }
    // What was written to the node directory is durable before anything takes its place; and it is older than the clone, also by number.
    sync_file_system(top_.get(), node_directory_);
    btrfs::create_snapshot(source.get(), work_.get(), kRollbackContent, false);
    clone_ = btrfs::subvolume_info(open_at(work_.get(), kRollbackContent, O_RDONLY | O_DIRECTORY).get());
}

void BtrfsRollback::exchange() {
    const FileDescriptor parent = open_seat();
    const auto is_there = [&](std::uint64_t id) {
        const FileDescriptor seated(std::max(try_open_long(parent.get(), seat_name(), O_RDONLY | O_DIRECTORY), -1));
        return seated && btrfs::is_subvolume(seated.get()) && btrfs::subvolume_info(seated.get()).id == id;
    };
    if (!is_there(live_.id)) {
        throw Error::failed("the node directory " + node_directory_ + " was replaced by another meanwhile", "look at it, and try again");
    }
    FileDescriptor mount;
    if (layout_ == Layout::kMountRoot) {
        mount = btrfs::open_mount(node_directory_, clone_.id, mount_attributes(mount_));
    }
    sync_file_system(top_.get(), node_directory_);
    rename_exchange(work_.get(), kRollbackContent, parent.get(), seat_name());
    exchanged_ = true;
    fault::step("rollback.exchanged");
    try {
        if (mount) {
            exchange_mount(mount.get(), node_directory_);
            fault::step("rollback.mounted");
        }
        btrfs::commit(top_.get(), node_directory_);
    } catch (const Error& error) {
        if (mount_of(node_directory_).id == mount_.id && !is_mounted_at(node_directory_, seat_)) {
            exchange_back();
        }
        throw;
    }
    fault::step("rollback.committed");
}

void BtrfsRollback::exchange_back() noexcept {
    try {
        rename_exchange(work_.get(), kRollbackContent, open_seat().get(), seat_name());
        exchanged_ = false;
        btrfs::commit(top_.get(), node_directory_);
    } catch (const std::exception&) {
        // What is in place is whole in either case, and finish_btrfs_rollback() says which it is.
    }
}

std::string BtrfsRollback::keep() {
    keep_replaced(work_.get(), snapshots_.get(), kept_, folder_);
    remove_rollback_work(snapshots_.get(), naming_);
    fault::step("rollback.tidied");
    return folder_ + "/" + kept_;
}

void BtrfsRollback::require_shown() const {
    const FileDescriptor shown = open_path(node_directory_, O_RDONLY | O_DIRECTORY);
    const std::uint64_t id = btrfs::is_btrfs(shown.get()) ? btrfs::subvolume_id(shown.get()) : 0;
    if (id != clone_.id) {
        throw Error::failed("the path " + node_directory_ + " shows " +
                                (id == 0 ? "another file system" : "subvolume " + std::to_string(id)) + ", not the rolled back subvolume " +
                                std::to_string(clone_.id) + ", which is /" + seat_ + " of its btrfs",
                            "unmount what is mounted there, and mount it with subvol=" + shell_word(seat_));
    }
}

}  // namespace nodesnap
