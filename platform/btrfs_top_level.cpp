// The part of platform/btrfs.h that mounts a file system's top level where nobody sees it.
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap::btrfs {
namespace {

// What the kernel has logged on a file system context: "e Error text", one message a read.
std::string kernel_message(int context) {
    std::array<char, 1024> buffer;
    std::string all;
    for (;;) {
        const ssize_t length = ::read(context, buffer.data(), buffer.size());
        if (length <= 0) {
            return all;
        }
        std::string message(buffer.data(), static_cast<std::size_t>(length));
        all += (all.empty() ? "" : "; ") + (message.starts_with("e ") ? message.substr(2) : message);
    }
}

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

// Returns the mount, or an empty descriptor with the reason.
FileDescriptor mount_detached(const std::string& device, const std::string& subvolume_id, bool read_only, std::uint64_t attributes,
                              std::string& why) {
    const auto fail = [&why](const char* call, int context) {
        const int error = errno;
        const std::string message = context >= 0 ? kernel_message(context) : "";
        why = std::string(call) + ": " + std::strerror(error) + (message.empty() ? "" : " (" + message + ")");
        return FileDescriptor();
    };
    const FileDescriptor context(::fsopen("btrfs", FSOPEN_CLOEXEC));
    if (!context) {
        return fail("fsopen", -1);
    }
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", device.c_str(), 0) != 0 ||
        ::fsconfig(context.get(), FSCONFIG_SET_STRING, "subvolid", subvolume_id.c_str(), 0) != 0 ||
        // A second mount must agree with the first one on being read-only as a whole.
        (read_only && ::fsconfig(context.get(), FSCONFIG_SET_FLAG, "ro", nullptr, 0) != 0) ||
        ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return fail("fsconfig", context.get());
    }
    FileDescriptor mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
    return mount ? std::move(mount) : fail("fsmount", context.get());
}

}  // namespace

FileDescriptor open_mount(const std::string& path, std::uint64_t subvolume_id, std::uint64_t attributes) {
    const Mount mount = mount_of(path);
    const bool read_only = ("," + mount.super_options + ",").find(",ro,") != std::string::npos;
    const bool top = subvolume_id == kTopLevelId;
    std::string why = "no device of it is known";
    for (const std::string& device : devices_of(path, mount)) {
        if (FileDescriptor mounted = mount_detached(device, std::to_string(subvolume_id), read_only, attributes, why)) {
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
