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

struct ExtendedFlag {
    std::uint32_t flag;
    std::uint32_t extended;
};
constexpr ExtendedFlag kExtendedFlags[] = {{FS_SYNC_FL, FS_XFLAG_SYNC},
                                           {FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
                                           {FS_APPEND_FL, FS_XFLAG_APPEND},
                                           {FS_NODUMP_FL, FS_XFLAG_NODUMP},
                                           {FS_NOATIME_FL, FS_XFLAG_NOATIME}};

// FS_IOC_SETFLAGS makes of a file that btrfs is to compress one that is compressed by the mount's algorithm, whichever it had (its
// attribute btrfs.compression), and takes that attribute from one that isn't to be; this other call leaves it alone. False if not all that
// differs can be set by it.
bool set_by_extended(int fd, std::uint32_t present, std::uint32_t flags) {
    struct fsxattr extended {};
    if (::ioctl(fd, FS_IOC_FSGETXATTR, &extended) != 0) {
        return false;
    }
    std::uint32_t differs = present ^ flags;
    for (const auto& [flag, bit] : kExtendedFlags) {
        if ((differs & flag) != 0) {
            extended.fsx_xflags ^= bit;
            differs &= ~flag;
        }
    }
    return differs == 0 && ::ioctl(fd, FS_IOC_FSSETXATTR, &extended) == 0;
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
    if (error == 0 && (flags & (FS_COMPR_FL | FS_NOCOMP_FL)) != 0) {
        const auto present = inode_flags(fd, path_for_errors);
        if (present && set_by_extended(fd, *present, flags)) {
            return true;
        }
    }
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

std::uint32_t project_id(int fd) {
    struct fsxattr extended {};
    return ::ioctl(fd, FS_IOC_FSGETXATTR, &extended) == 0 ? extended.fsx_projid : 0;
}

}  // namespace nodesnap
