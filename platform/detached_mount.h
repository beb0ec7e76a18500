// A mount of a device that is attached nowhere: nobody else sees it, and it goes away with the last descriptor of anything in it, also when
// the program is killed. Linux 5.2 or later, CAP_SYS_ADMIN. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/mount.h"

namespace nodesnap {

struct DeviceMount {
    std::string type;    // "ext4"
    std::string device;  // "/dev/sda1"
    // As `mount -o` takes them, name and value; without a value: a flag.
    std::vector<std::pair<std::string, std::string>> options;
    std::uint64_t attributes = 0;  // of the mount: MOUNT_ATTR_...
};

// What mounts another device as that mount does its own: the type, options of the file system, and attributes of the mount. Two XFS of one
// UUID can be mounted at once.
DeviceMount mount_like(const Mount& mount, const std::string& device);

// The root as an O_PATH descriptor: open "." relative to it for more. Or an empty one, with the call that failed and what the kernel said.
FileDescriptor mount_detached(const DeviceMount& mount, std::string& why);

}  // namespace nodesnap
