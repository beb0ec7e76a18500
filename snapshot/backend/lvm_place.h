// LvmPlace: the logical volume that a node directory lies on, and where the directory is in the file system on it.
//
// Only file systems whose snapshot can be mounted beside them are taken: ext4 and XFS, whole on that volume. Two devices with one btrfs on
// them would be mixed up by the kernel.
#pragma once

#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/lvm.h"
#include "snapshot/backend/backend.h"

namespace nodesnap {

class LvmPlace {
public:
    // `node_directory` is absolute, without symlinks. Error::refused, with the remedy, where no snapshot of its volume can be taken.
    explicit LvmPlace(const std::string& node_directory);

    Layout layout() const { return layout_; }
    const std::string& node_directory() const { return node_directory_; }
    const std::string& type() const { return type_; }  // of the file system: "ext4", "xfs"
    const std::string& file_system_uuid() const { return file_system_uuid_; }
    const lvm::Volume& volume() const { return volume_; }             // as it was found when this was made
    const std::vector<lvm::Volume>& group() const { return group_; }  // all volumes of its group, as they were then
    const std::string& inside() const { return inside_; }             // the node directory's path in the file system, without leading '/'

    // The file system on a snapshot of the volume, read-only, through a mount that nobody else sees. The kernel replays its log first.
    FileDescriptor mount(const lvm::Volume& snapshot) const;
    // Has the kernel replay its log, and take away what was removed while it was open: afterwards it need not be written to any more.
    void replay_log(const lvm::Volume& snapshot) const;
    FileDescriptor open_node(int mounted) const;  // the node directory in such a mount
    // Error::failed if that isn't the one that is there now: then something is mounted over a directory above it, say.
    void check_node(int node) const;

private:
    FileDescriptor mount(const lvm::Volume& snapshot, bool writable) const;
    void refuse_unsuitable(const std::string& options) const;

    std::string node_directory_;
    Layout layout_ = Layout::kFolder;
    std::string type_;
    std::string source_;
    std::string inside_;
    std::string file_system_uuid_;
    lvm::Volume volume_;
    std::vector<lvm::Volume> group_;
};

}  // namespace nodesnap
