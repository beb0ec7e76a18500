#include "snapshot/backend/tree_place.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "platform/btrfs.h"
#include "platform/detached_mount.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/lease.h"
#include "platform/mount.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/backend/nameless_files.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

Layout layout_of(const std::string& node_directory) {
    if (is_mount_root(node_directory)) {
        return Layout::kMountRoot;
    }
    return btrfs::is_subvolume(open_path(node_directory, O_RDONLY | O_DIRECTORY).get()) ? Layout::kSubvolume : Layout::kFolder;
}

}  // namespace

TreePlace::TreePlace(const std::string& node_directory, const std::string& snapshot_directory, const ExcludeRules* excludes, bool must_last)
    : node_directory_(node_directory), layout_(layout_of(node_directory)), file_system_uuid_(file_system_uuid_of(node_directory)) {
    if (snapshot_directory.empty()) {
        in_memory_ = layout_ == Layout::kMountRoot && !must_last;
        if (in_memory_) {
            folder_ = "memory";
            return;
        }
        if (layout_ == Layout::kMountRoot) {
            throw Error::refused(
                "the node directory " + node_directory_ + " is the root of a mount: its snapshots could only be kept inside it",
                "move the node into a directory of that file system, or name a directory inside that is excluded: "
                "--snapshot-dir " +
                    shell_word(join_path(node_directory_, kSnapshotFolder)) + " " + exclude_option_of(kSnapshotFolder));
        }
        folder_ = join_path(parent_of_path(node_directory_), kSnapshotFolder);
        return;
    }
    named_by_operator_ = true;
    const NamedFolder named = named_folder(snapshot_directory);
    folder_ = named.path;
    if (file_system_uuid_of(named.existing) != file_system_uuid_) {
        throw Error::refused("the snapshot directory " + folder_ + " is not on the file system of the node directory " + node_directory_,
                             "name a directory on that file system with --snapshot-dir, or leave the option out");
    }
    if (excludes != nullptr) {
        refuse_folder_inside(folder_, node_directory_, *excludes);
    }
}

// Nobody sees it, and it is gone with the process.
FileDescriptor TreePlace::open_memory(bool make) const {
    if (!memory_ && make) {
        std::string why;
        memory_ = mount_detached({"tmpfs", "nodesnap", {{"mode", "0700"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC}, why);
        if (!memory_) {
            throw Error::failed("no place can be had in memory for the tree of a snapshot: " + why,
                                "use --snapshot none, or keep snapshots inside, in a directory that is excluded (--snapshot-dir)");
        }
    }
    return memory_ ? open_at(memory_.get(), ".", O_RDONLY | O_DIRECTORY) : FileDescriptor();
}

FileDescriptor TreePlace::open_folder(bool make) const {
    if (in_memory_) {
        return open_memory(make);
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

std::string TreePlace::beside() const {
    if (in_memory_) {
        return node_directory_;  // where the files are made, without names
    }
    return stat_path(folder_) ? folder_ : parent_of_path(folder_);
}

std::string TreePlace::why_not_in_memory() const {
    if (!in_memory_) {
        return "";
    }
    const FileSystem file_system = file_system_of(node_directory_);
    const std::uint64_t files = file_system.total_inodes - std::min(file_system.total_inodes, file_system.free_inodes);
    if (files > NamelessFiles::limit()) {
        return "the node directory is the root of a mount with " + std::to_string(files) + " files, and no more than " +
               std::to_string(NamelessFiles::limit()) +
               " can be held open (snapshots with names could be kept inside, in a directory that is excluded: --snapshot-dir)";
    }
    return "";
}

std::string TreePlace::why_no_links() const {
    const std::string beside = this->beside();
    // A link across mounts isn't made, be they of one file system.
    if (mount_of(beside).id != mount_of(node_directory_).id) {
        return beside + " is under another mount, to which nothing can be linked";
    }
    FileDescriptor made(try_open_long(open_path(beside, O_RDONLY | O_DIRECTORY).get(), "", O_RDWR | O_TMPFILE, 0600));
    if (!made) {
        return "no file can be made in " + beside + ": " + std::strerror(-made.get());
    }
    try {
        write_clone_origin(made.get(), false, CloneOrigin{}, beside);  // a copy has to say what it is of
        const FileDescriptor again = open_path("/proc/self/fd/" + std::to_string(made.get()), O_RDONLY);
        made.reset();
        if (const ReadLease lease(again.get()); lease.error() != 0) {
            return "no lease can be had there, which proves that nobody writes to a file (" + std::string(std::strerror(lease.error())) +
                   ")";
        }
    } catch (const Error& error) {
        return error.message();
    }
    return "";
}

std::string TreePlace::why_no_clones() const {
    constexpr std::size_t kProbeBytes = 4096;
    const std::string beside = this->beside();
    const auto open_nameless = [&] { return try_open_long(open_path(beside, O_RDONLY | O_DIRECTORY).get(), "", O_RDWR | O_TMPFILE, 0600); };
    const FileDescriptor from(open_nameless());
    const FileDescriptor to(open_nameless());
    if (!from || !to) {
        return "no file can be made in " + beside + ": " + std::strerror(from ? -to.get() : -from.get());
    }
    const std::array<std::byte, kProbeBytes> content{std::byte{1}};
    try {
        pwrite_all(from.get(), content, 0, beside);
        if (const int failed = entry::clone_file(from.get(), to.get()); failed != 0) {
            return "files there cannot be cloned (" + std::string(std::strerror(failed)) + ")";
        }
        write_clone_origin(to.get(), false, CloneOrigin{}, beside);  // a clone has to say what it is of
    } catch (const Error& error) {
        return error.message();
    }
    return "";
}

}  // namespace nodesnap
