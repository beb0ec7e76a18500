#include "snapshot/backend/rollback_work.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "platform/btrfs.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "platform/mount_exchange.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/btrfs_rollback.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr const char* kSeat = "seat";
constexpr const char* kSnapshot = "snapshot";
constexpr const char* kKept = "kept";

void note(int work, const char* name, const std::string& value) {
    if (const int error = entry::make_symlink(value, work, name); error != 0) {
        throw Error::system("note the rollback in", name, error);
    }
}

std::string noted(int work, const char* name) {
    return stat_at(work, name) ? read_link(work, name) : "";
}

// From the top level.
std::string folder_path(const BtrfsPlace& place) {
    return place.folder().starts_with(kTopLevelScheme) ? kSnapshotFolder : btrfs::path_from_top_level(place.folder());
}

// What a rollback that was cut off has left of one node directory.
class LeftRollback {
public:
    LeftRollback(const std::string& node_directory, const std::string& snapshot_directory)
        : node_directory_(node_directory), snapshot_directory_(snapshot_directory), naming_(node_directory) {}

    // False if there is nothing, or somebody is at work there.
    bool find() {
        {
            const BtrfsPlace place(node_directory_, snapshot_directory_, nullptr);
            live_ = btrfs::subvolume_info(place.subvolume()).id;
            const FileDescriptor folder = place.inside().empty() ? place.open_folder(false) : FileDescriptor();
            if (!folder || !stat_at(folder.get(), naming_.rollback_directory())) {
                return false;
            }
        }
        top_level_ = btrfs::open_top_level(node_directory_);
        snapshots_ = open_snapshots_from_top(top_level_.get(), node_directory_, snapshot_directory_);
        const int work = try_open_long(snapshots_.get(), naming_.rollback_directory(), kDirectory);
        if (work < 0) {
            return false;
        }
        work_ = FileDescriptor(work);
        const auto now = entry::lock_exclusive(work) == 0 ? stat_at(snapshots_.get(), naming_.rollback_directory()) : std::nullopt;
        return now && now->stx_ino == stat_fd(work).stx_ino;
    }

    std::string finish() {
        note_ = read_rollback_note(work_.get());
        if (note_.kept.empty() && !stat_at(work_.get(), kRollbackContent)) {
            remove_rollback_work(snapshots_.get(), naming_);
            return "";  // it hadn't begun, or had ended
        }
        const std::string what = "a rollback of " + node_directory_ + " to the snapshot " + note_.snapshot + " was cut off ";
        const bool kept = !note_.kept.empty() && stat_at(snapshots_.get(), naming_.on_disk(note_.kept, false));
        const bool took_place = stat_at(work_.get(), kRollbackContent) ? !take_back_what_is_not_shown() && content() < live_ : kept;
        if (took_place) {
            keep_replaced(work_.get(), snapshots_.get(), naming_.on_disk(note_.kept, false), node_directory_);
        } else {
            discard_clone(work_.get(), node_directory_);
        }
        remove_rollback_work(snapshots_.get(), naming_);
        return what +
               (took_place
                    ? "after it had taken place: the directory is that of the snapshot, and what was there before is kept as " + note_.kept
                    : "before it took place: the directory is what it was");
    }

private:
    std::uint64_t content() const {
        const FileDescriptor opened = open_at(work_.get(), kRollbackContent, kDirectory);
        if (!btrfs::is_subvolume(opened.get())) {
            throw Error::failed("what a rollback of " + node_directory_ + " that was cut off has left, " + naming_.rollback_directory() +
                                    " beside its snapshots, isn't what nodesnap makes",
                                "move it away");
        }
        return btrfs::subvolume_info(opened.get()).id;
    }

    // The names were exchanged, but the node directory's mount still shows what was there before. That is what stays; but where the new
    // mount lies under the old one already, which only has to go. False if it is not so.
    bool take_back_what_is_not_shown() {
        if (content() != live_) {
            return false;
        }
        if (is_mounted_at(node_directory_, note_.seat)) {
            unmount(node_directory_);
            live_ = btrfs::subvolume_info(open_path(node_directory_, kDirectory).get()).id;
            return false;
        }
        const std::size_t slash = note_.seat.rfind('/');
        const FileDescriptor parent = open_long(
            top_level_.get(), slash == std::string::npos ? "." : std::string_view(note_.seat).substr(0, slash), O_RDONLY | O_DIRECTORY);
        rename_exchange(work_.get(), kRollbackContent, parent.get(), note_.seat.substr(slash + 1));
        return true;
    }

    const std::string node_directory_;
    const std::string snapshot_directory_;
    const SnapshotNaming naming_;
    std::uint64_t live_ = 0;
    FileDescriptor top_level_;
    FileDescriptor snapshots_;
    FileDescriptor work_;
    RollbackNote note_;
};

}  // namespace

FileDescriptor open_snapshots_from_top(int top_level, const std::string& node_directory, const std::string& snapshot_directory) {
    const BtrfsPlace place(node_directory, snapshot_directory, nullptr);
    place.open_folder(true);
    return open_long(top_level, folder_path(place), O_RDONLY | O_DIRECTORY);
}

bool is_mounted_at(const std::string& mount_point, const std::string& seat) {
    const auto mounts = list_mounts();
    return std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) {
        return mount.mount_point == mount_point && mount.type == "btrfs" && mount.root == "/" + seat;
    });
}

FileDescriptor make_rollback_work(int snapshots, const SnapshotNaming& naming, const std::string& node_directory) {
    const std::string name = naming.rollback_directory();
    if (const int error = entry::make_directory(snapshots, name, 0700); error != 0 && error != EEXIST) {
        throw Error::system("make the directory", name, error);
    }
    FileDescriptor work = open_at(snapshots, name, kDirectory);
    // One that has ended just now has taken its directory with it.
    const auto now = entry::lock_exclusive(work.get()) == 0 ? stat_at(snapshots, name) : std::nullopt;
    if (!now || now->stx_ino != stat_fd(work.get(), name).stx_ino || stat_at(work.get(), kRollbackContent)) {
        throw Error::refused("another rollback of " + node_directory + " is under way", "wait until it has ended");
    }
    return work;
}

void note_rollback(int work, const RollbackNote& written) {
    for (const char* name : {kSeat, kSnapshot, kKept}) {
        if (const int error = entry::remove(work, name); error != 0 && error != ENOENT) {
            throw Error::system("remove", name, error);
        }
    }
    note(work, kSeat, written.seat);
    note(work, kSnapshot, written.snapshot);
    note(work, kKept, written.kept);
}

RollbackNote read_rollback_note(int work) {
    return {noted(work, kSeat), noted(work, kSnapshot), noted(work, kKept)};
}

void discard_clone(int work, const std::string& shown) {
    if (stat_at(work, kRollbackContent)) {
        btrfs::delete_subvolume(work, kRollbackContent);
        btrfs::commit(work, shown);
    }
}

void keep_replaced(int work, int snapshots, const std::string& on_disk, const std::string& shown) {
    // Read-only it couldn't be moved.
    if (stat_at(work, kRollbackContent) && !rename_no_replace(work, kRollbackContent, snapshots, on_disk)) {
        throw Error::failed("what was there before cannot be kept: there is a snapshot of its name already, " + on_disk,
                            "remove or rename that, then run nodesnap snapshot list");
    }
    fault::step("rollback.moved");
    btrfs::set_read_only(open_at(snapshots, on_disk, kDirectory).get(), true);
    btrfs::commit(snapshots, shown);
    fault::step("rollback.kept");
}

void make_exchange_durable(int present, int above, const std::string& shown) {
    if (btrfs::is_btrfs(above)) {
        btrfs::commit(above, shown);
        return;
    }
    sync_directory(above, shown);
    sync_directory(present, shown);
    fault::step("rollback.names-durable");
    sync_file_system(above, shown);
}

void keep_replaced_tree(TreeStore& store, int work, const std::string& on_disk) {
    if (!store.adopt(work, kRollbackContent, on_disk)) {
        throw Error::failed("what was there before cannot be kept: there is a snapshot of its name already, " + on_disk,
                            "remove or rename that, then run nodesnap snapshot list");
    }
    fault::step("rollback.kept");
}

void remove_rollback_work(int snapshots, const SnapshotNaming& naming) {
    const std::string name = naming.rollback_directory();
    {
        const FileDescriptor work = open_at(snapshots, name, kDirectory);
        for (const char* note : {kSeat, kSnapshot, kKept}) {
            if (const int error = entry::remove(work.get(), note); error != 0 && error != ENOENT) {
                throw Error::system("remove", note, error);
            }
        }
    }
    if (const int error = entry::remove_directory(snapshots, name); error != 0) {
        throw Error::system("remove the directory", name, error);
    }
}

std::string finish_btrfs_rollback(const std::string& node_directory, const std::string& snapshot_directory) {
    LeftRollback left(node_directory, snapshot_directory);
    return left.find() ? left.finish() : "";
}

}  // namespace nodesnap
