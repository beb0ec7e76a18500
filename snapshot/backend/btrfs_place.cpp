#include "snapshot/backend/btrfs_place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

std::string parent_of(const std::string& absolute) {
    const std::size_t slash = absolute.rfind('/');
    return slash == 0 ? "/" : absolute.substr(0, slash);
}

std::string join(const std::string& directory, const std::string& name) {
    return directory == "/" ? directory + name : directory + "/" + name;
}

// The folder holds what the daemon's user may not see or change, below a directory that may be that user's own: so it must be ours.
void check_folder(int folder, const std::string& path) {
    struct stat status {};
    if (::fstat(folder, &status) != 0) {
        throw Error::system("stat", path, errno);
    }
    if (status.st_uid != ::geteuid()) {
        throw Error::refused("the snapshot folder " + path + " belongs to another user (id " + std::to_string(status.st_uid) + ")",
                             "remove it, or name another directory with --snapshot-dir");
    }
    if ((status.st_mode & 077) != 0 && ::fchmod(folder, 0700) != 0) {
        throw Error::system("change the mode of", path, errno);
    }
}

// Of the documented place; a symlink there isn't followed.
FileDescriptor open_own_folder(int parent, const std::string& shown, bool make) {
    if (make && ::mkdirat(parent, kSnapshotFolder, 0700) != 0 && errno != EEXIST) {
        throw Error::system("create directory", shown, errno);
    }
    const int fd = ::openat(parent, kSnapshotFolder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !make) {
        return {};
    }
    if (fd < 0) {
        throw Error::system("open the snapshot folder", shown, errno);
    }
    FileDescriptor folder(fd);
    check_folder(fd, shown);
    return folder;
}

}  // namespace

FileDescriptor open_top_level_folder(int top_level, bool make) {
    return open_own_folder(top_level, std::string(kSnapshotFolder) + " in the top level of the file system", make);
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
                                 shell_word(join(node_directory_, kSnapshotFolder)) + " " + exclude_option_of(kSnapshotFolder));
    }
    if (layout_ == Layout::kMountRoot || subvolume_root_.empty()) {
        top_level();
        in_top_level_ = true;
        folder_ = kTopLevelScheme + file_system_uuid_ + "/" + kSnapshotFolder;
    } else {
        folder_ = join(layout_ == Layout::kSubvolume ? parent_of(node_directory_) : subvolume_root_, kSnapshotFolder);
    }
}

void BtrfsPlace::use_directory(const std::string& directory, const ExcludeRules* excludes) {
    named_by_operator_ = true;
    // It may not exist yet, its parent must.
    std::string trimmed = directory;
    while (trimmed.size() > 1 && trimmed.ends_with('/')) {
        trimmed.pop_back();
    }
    const bool exists = stat_path(trimmed).has_value();
    const std::string parent = trimmed.find('/') == std::string::npos ? "." : parent_of(trimmed);
    folder_ = exists ? resolve_path(trimmed) : join(resolve_path(parent), trimmed.substr(trimmed.rfind('/') + 1));
    const FileDescriptor fd = open_path(exists ? folder_ : parent, O_RDONLY | O_DIRECTORY);
    if (!btrfs::is_btrfs(fd.get()) || btrfs::fs_uuid(fd.get()) != file_system_uuid_) {
        throw Error::refused("the snapshot directory " + folder_ + " is not on the file system of the node directory " + node_directory_,
                             "name a directory on that file system with --snapshot-dir, or leave the option out");
    }
    if (excludes == nullptr) {
        return;
    }
    const std::string prefix = join(node_directory_, "");
    if (folder_ == node_directory_ ||
        (folder_.starts_with(prefix) && !excludes->matches_tree(std::string_view(folder_).substr(prefix.size()), true))) {
        throw Error::refused("the snapshot directory " + folder_ + " lies inside the node directory",
                             folder_ == node_directory_ ? "name another one with --snapshot-dir"
                                                        : "name another one with --snapshot-dir, or leave it out with " +
                                                              exclude_option_of(std::string_view(folder_).substr(prefix.size())));
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
        return open_own_folder(open_path(parent_of(folder_), O_PATH | O_DIRECTORY).get(), folder_, make);
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
