#include "snapshot/backend/btrfs_place.h"

#include <fcntl.h>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "snapshot/shell_word.h"

namespace nodesnap {

FileDescriptor open_top_level_folder(int top_level, bool make) {
    return open_own_folder(top_level, kSnapshotFolder, std::string(kSnapshotFolder) + " in the top level of the file system", make);
}

BtrfsPlace::BtrfsPlace(const std::string& node_directory, const std::string& snapshot_directory, const ExcludeRules* excludes)
    : node_directory_(node_directory) {
    find_subvolume();
    if (snapshot_directory.empty()) {
        find_folder(excludes);
    } else {
        use_directory(snapshot_directory, excludes);
    }
}

int BtrfsPlace::top_level() {
    if (!top_level_) {
        top_level_ = btrfs::open_top_level(node_directory_);
    }
    return top_level_.get();
}

void BtrfsPlace::find_subvolume() {
    const FileDescriptor node = open_path(node_directory_, O_RDONLY | O_DIRECTORY);
    file_system_uuid_ = btrfs::fs_uuid(node.get());
    btrfs::Place place = btrfs::place_of(node_directory_);
    subvolume_root_ = std::move(place.subvolume_root);
    inside_ = std::move(place.inside);
    if (is_mount_root(node_directory_)) {
        layout_ = Layout::kMountRoot;
    } else {
        layout_ = inside_.empty() ? Layout::kSubvolume : Layout::kFolder;
    }
    if (!subvolume_root_.empty()) {
        subvolume_ = open_path(subvolume_root_, O_RDONLY | O_DIRECTORY);
    } else {
        // Only a folder of the subvolume is mounted; its root is reached from above.
        const std::string path = btrfs::subvolume_path(node.get(), btrfs::subvolume_id(node.get()));
        subvolume_ = open_long(top_level(), path, O_RDONLY | O_DIRECTORY);
    }
}

void BtrfsPlace::find_folder(const ExcludeRules* excludes) {
    if (excludes != nullptr && inside_.empty() && btrfs::subvolume_id(subvolume_.get()) == btrfs::kTopLevelId) {
        throw Error::refused("the node directory " + node_directory_ +
                                 " is the top level of its btrfs (subvolume 5): snapshots of it could only "
                                 "be kept inside it",
                             "move the node into a subvolume and mount that, or name a directory inside that is excluded: --snapshot-dir " +
                                 shell_word(join_path(node_directory_, kSnapshotFolder)) + " " + exclude_option_of(kSnapshotFolder));
    }
    if (layout_ == Layout::kMountRoot || subvolume_root_.empty()) {
        top_level();
        in_top_level_ = true;
        folder_ = kTopLevelScheme + file_system_uuid_ + "/" + kSnapshotFolder;
    } else {
        folder_ = join_path(layout_ == Layout::kSubvolume ? parent_of_path(node_directory_) : subvolume_root_, kSnapshotFolder);
    }
}

void BtrfsPlace::use_directory(const std::string& directory, const ExcludeRules* excludes) {
    named_by_operator_ = true;
    const NamedFolder named = named_folder(directory);
    folder_ = named.path;
    const FileDescriptor fd = open_path(named.existing, O_RDONLY | O_DIRECTORY);
    if (!btrfs::is_btrfs(fd.get()) || btrfs::fs_uuid(fd.get()) != file_system_uuid_) {
        throw Error::refused("the snapshot directory " + folder_ + " is not on the file system of the node directory " + node_directory_,
                             "name a directory on that file system with --snapshot-dir, or leave the option out");
    }
    if (excludes != nullptr) {
        refuse_folder_inside(folder_, node_directory_, *excludes);
    }
}

std::string BtrfsPlace::describe_folder() const {
    if (in_top_level_) {
        return std::string("/") + kSnapshotFolder + " in the top level of the btrfs " + file_system_uuid_;
    }
    return folder_;
}

FileDescriptor BtrfsPlace::open_folder(bool make) const {
    if (in_top_level_) {
        return open_top_level_folder(top_level_.get(), make);
    }
    if (!named_by_operator_) {
        return open_own_folder(open_path(parent_of_path(folder_), O_PATH | O_DIRECTORY).get(), kSnapshotFolder, folder_, make);
    }
    if (!stat_path(folder_)) {
        if (!make) {
            return {};
        }
        make_directories(folder_, 0700);
    }
    return open_path(folder_, O_RDONLY | O_DIRECTORY);
}

}  // namespace nodesnap
