#include "snapshot/backend/lvm_place.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <algorithm>

#include "platform/detached_mount.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/mount.h"

namespace nodesnap {
namespace {

constexpr const char* kRemedy = "leave --snapshot out, so that the best is taken that there is; `nodesnap doctor` tells what that is";

lvm::Volume find_volume(const lvm::VolumeId& id, const std::vector<lvm::Volume>& group, const std::string& source) {
    const auto found = std::find_if(group.begin(), group.end(), [&](const lvm::Volume& volume) { return volume.uuid == id.uuid; });
    if (found == group.end()) {
        throw Error::failed("lvs doesn't list the logical volume that " + source + " is",
                            "its volume group may be hidden from this host by filters or a devices file (lvmdevices); see `lvs`");
    }
    return *found;
}

}  // namespace

LvmPlace::LvmPlace(const std::string& node_directory) : node_directory_(node_directory) {
    const Mount mount = mount_of(node_directory);
    type_ = mount.type;
    source_ = mount.source;
    layout_ = mount.mount_point == node_directory ? Layout::kMountRoot : Layout::kFolder;
    std::string inside = mount.root == "/" ? "" : mount.root;
    inside += mount.mount_point == "/" ? node_directory : node_directory.substr(mount.mount_point.size());
    inside_ = inside.substr(std::min(inside.find_first_not_of('/'), inside.size()));
    if (type_ == "btrfs") {
        throw Error::refused("the node directory " + node_directory_ +
                                 " is on btrfs, of which no snapshot of a volume can be mounted: the kernel would take the two for one",
                             "use --snapshot btrfs");
    }
    const auto id = lvm::volume_of_device(mount.device);
    if (!id) {
        throw Error::refused(
            "the node directory " + node_directory + " lies on " + source_ + " (" + type_ + "), which is no LVM logical volume", kRemedy);
    }
    refuse_unsuitable(mount.super_options);
    group_ = lvm::list_volumes();
    std::erase_if(group_, [&](const lvm::Volume& volume) { return volume.group_uuid != id->group_uuid; });
    volume_ = find_volume(*id, group_, source_);
    file_system_uuid_ = file_system_uuid_of(node_directory);
}

void LvmPlace::refuse_unsuitable(const std::string& options) const {
    if (type_ != "ext4" && type_ != "xfs") {
        throw Error::refused("the node directory " + node_directory_ + " is on " + type_ + ", of whose volume no snapshots are taken",
                             "ext4 and XFS are known; or stop the daemon, and use --snapshot none");
    }
    const std::string all = "," + options + ",";
    for (const char* other : {",logdev=", ",rtdev="}) {
        if (all.find(other) != std::string::npos) {
            throw Error::refused("the file system of the node directory " + node_directory_ +
                                     " has a second device, for its log or its data: a snapshot of the volume would lack what is there",
                                 "move it to a file system on one volume, or stop the daemon and use --snapshot none");
        }
    }
}

FileDescriptor LvmPlace::mount(const lvm::Volume& snapshot) const {
    return mount(snapshot, false);
}

void LvmPlace::replay_log(const lvm::Volume& snapshot) const {
    mount(snapshot, true);
}

FileDescriptor LvmPlace::mount(const lvm::Volume& snapshot, bool writable) const {
    DeviceMount request{type_, snapshot.device, {{writable ? "rw" : "ro", ""}}, 0};
    request.attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME;
    if (type_ == "xfs") {
        request.options.emplace_back("nouuid", "");  // it is that of the volume itself, which is mounted
    } else {
        request.options.emplace_back("errors", "remount-ro");  // a snapshot that overflows is no reason for errors=panic
    }
    std::string why;
    FileDescriptor mounted = mount_detached(request, why);
    if (!mounted) {
        throw Error::failed("cannot mount the snapshot " + snapshot.full_name() + ": " + why,
                            "Linux 5.2 or later, and root; what the kernel's log (dmesg) says of " + snapshot.device + " may tell more");
    }
    return mounted;
}

FileDescriptor LvmPlace::open_node(int mounted) const {
    return open_long(mounted, inside_, O_RDONLY | O_DIRECTORY);
}

void LvmPlace::check_node(int node) const {
    const FileDescriptor live = open_path(node_directory_, O_RDONLY | O_DIRECTORY);
    if (stat_fd(node).stx_ino != stat_fd(live.get(), node_directory_).stx_ino) {
        throw Error::failed(
            "what the snapshot of " + volume_.full_name() + " shows at /" + inside_ + " isn't the node directory " + node_directory_,
            "it was replaced just now, or something is mounted over a directory above it; run the backup again");
    }
}

}  // namespace nodesnap
