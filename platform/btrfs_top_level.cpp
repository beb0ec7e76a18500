// The part of platform/btrfs.h that mounts a file system's top level where nobody sees it.
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <vector>

#include "platform/btrfs.h"
#include "platform/detached_mount.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap::btrfs {
namespace {

// Any of the file system's devices will do: it is mounted, so the kernel knows the others.
std::vector<std::string> devices_of(const std::string& path, const Mount& mount) {
    std::vector<std::string> devices;
    if (mount.source.starts_with('/')) {
        devices.push_back(mount.source);
    }
    const FileDescriptor fd = open_path(path, O_RDONLY);
    btrfs_ioctl_fs_info_args info{};
    if (::ioctl(fd.get(), BTRFS_IOC_FS_INFO, &info) != 0) {
        return devices;
    }
    constexpr std::uint64_t kMostIds = 4096;  // ids of removed devices aren't used again, so that gaps are usual
    for (std::uint64_t id = 1; id <= info.max_id && id <= kMostIds; ++id) {
        btrfs_ioctl_dev_info_args device{};
        device.devid = id;
        if (::ioctl(fd.get(), BTRFS_IOC_DEV_INFO, &device) == 0 && device.path[0] == '/') {
            devices.emplace_back(reinterpret_cast<const char*>(device.path));
        }
    }
    return devices;
}

}  // namespace

FileDescriptor open_mount(const std::string& path, std::uint64_t subvolume_id, std::uint64_t attributes) {
    const Mount mount = mount_of(path);
    const bool read_only = ("," + mount.super_options + ",").find(",ro,") != std::string::npos;
    const bool top = subvolume_id == kTopLevelId;
    std::string why = "no device of it is known";
    for (const std::string& device : devices_of(path, mount)) {
        DeviceMount request{"btrfs", device, {{"subvolid", std::to_string(subvolume_id)}}, attributes};
        if (read_only) {  // a second mount must agree with the first one on being read-only as a whole
            request.options.emplace_back("ro", "");
        }
        if (FileDescriptor mounted = mount_detached(request, why)) {
            return mounted;
        }
    }
    throw Error::refused(std::string("cannot reach the ") + (top ? "top level" : "subvolume " + std::to_string(subvolume_id)) +
                             " of the btrfs that holds " + path + ": " + why,
                         std::string("run as root (CAP_SYS_ADMIN, Linux 5.2 or later)") +
                             (top ? ", or name a directory on the same file system with --snapshot-dir" : ""));
}

FileDescriptor open_top_level(const std::string& path) {
    return open_mount(path, kTopLevelId, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME);
}

}  // namespace nodesnap::btrfs
