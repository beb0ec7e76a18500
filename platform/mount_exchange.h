// Putting one mount in the place of another. Needs CAP_SYS_ADMIN. Any thread; mount namespaces are per process. Errors: nodesnap::Error.
#pragma once

#include <cstdint>
#include <string>

#include "platform/mount.h"

namespace nodesnap {

// MOUNT_ATTR_... as of the mount's own options.
std::uint64_t mount_attributes(const Mount& mount);
// Whether anything uses the mount at this mount point: open files, working directories, mounts below, also what the kernel itself has open
// (an NFS export, a loop device). Our own descriptors on it count.
bool mount_in_use(const std::string& mount_point);
// `mount`, which is attached nowhere, takes the place of what is mounted there. From Linux 6.5 on in one step; before, nothing is mounted
// there for an instant, and if it is in use it is Error::failed, and stays. What is propagated to other mount namespaces follows. What has
// files open on the old mount keeps them.
void exchange_mount(int mount, const std::string& mount_point);
// `mount`, which is attached nowhere, is mounted there, over what is there.
void attach_mount(int mount, const std::string& mount_point);
// Error::failed with EBUSY if it is in use.
void unmount(const std::string& mount_point);

}  // namespace nodesnap
