#include "platform/inode_flags.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

// EINVAL: some file systems (overlay, 9p) answer so to ioctls that they don't know.
bool unsupported(int error) {
    return error == ENOTTY || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL;
}

}  // namespace

// The ioctls are declared with `long`, but the kernel reads and writes an int.
std::optional<std::uint32_t> inode_flags(int fd, const std::string& path_for_errors) {
    int flags = 0;
    int error = fault::inject("getflags");
    if (error == 0 && ::ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) {
        error = errno;
    }
    if (unsupported(error)) {
        return std::nullopt;
    }
    if (error != 0) {
        throw Error::system("read the inode flags of", path_for_errors, error);
    }
    return static_cast<std::uint32_t>(flags);
}

bool set_inode_flags(int fd, std::uint32_t flags, const std::string& path_for_errors) {
    int value = static_cast<int>(flags);
    int error = fault::inject("setflags");
    if (error == 0 && ::ioctl(fd, FS_IOC_SETFLAGS, &value) != 0) {
        error = errno;
    }
    if (unsupported(error)) {
        return false;
    }
    if (error != 0) {
        throw Error::system("set the inode flags of", path_for_errors, error);
    }
    return true;
}

std::uint64_t inode_generation(int fd) {
    int generation = 0;
    if (::ioctl(fd, FS_IOC_GETVERSION, &generation) != 0) {
        return 0;
    }
    return static_cast<std::uint32_t>(generation);
}

}  // namespace nodesnap
