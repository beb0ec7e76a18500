#include "platform/mount_exchange.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr unsigned kBeneath = 0x200;  // MOVE_MOUNT_BENEATH, which older headers lack

int attach(int mount, const std::string& mount_point, unsigned flags) {
    if (const int error = fault::inject("move_mount")) {
        return error;
    }
    return ::move_mount(mount, "", AT_FDCWD, mount_point.c_str(), MOVE_MOUNT_F_EMPTY_PATH | flags) == 0 ? 0 : errno;
}

int detach(const std::string& mount_point, int flags) {
    if (const int error = fault::inject("umount")) {
        return error;
    }
    return ::umount2(mount_point.c_str(), UMOUNT_NOFOLLOW | flags) == 0 ? 0 : errno;
}

}  // namespace

std::uint64_t mount_attributes(const Mount& mount) {
    struct Named {
        std::string_view name;
        std::uint64_t attribute;
    };
    constexpr std::array<Named, 7> kNamed = {{{"ro", MOUNT_ATTR_RDONLY},
                                              {"nosuid", MOUNT_ATTR_NOSUID},
                                              {"nodev", MOUNT_ATTR_NODEV},
                                              {"noexec", MOUNT_ATTR_NOEXEC},
                                              {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW},
                                              {"noatime", MOUNT_ATTR_NOATIME},
                                              {"nodiratime", MOUNT_ATTR_NODIRATIME}}};
    const std::string options = "," + mount.options + ",";
    const auto has = [&options](std::string_view name) { return options.find("," + std::string(name) + ",") != std::string::npos; };
    std::uint64_t attributes = has("relatime") || has("noatime") ? 0 : MOUNT_ATTR_STRICTATIME;
    for (const Named& named : kNamed) {
        attributes |= has(named.name) ? named.attribute : 0;
    }
    return attributes;
}

bool mount_in_use(const std::string& mount_point) {
    // Such a call marks a mount that isn't in use, and unmounts one that is marked. Any use takes the mark off: so one before, for what
    // others may have marked, and one after.
    open_path(mount_point, O_PATH | O_DIRECTORY);
    const int error = detach(mount_point, MNT_EXPIRE);
    open_path(mount_point, O_PATH | O_DIRECTORY);
    if (error != EAGAIN && error != EBUSY) {
        throw Error::system("find out whether anything uses the mount at", mount_point, error);
    }
    return error == EBUSY;
}

void attach_mount(int mount, const std::string& mount_point) {
    if (const int error = attach(mount, mount_point, 0)) {
        throw Error::system("mount at", mount_point, error);
    }
}

void unmount(const std::string& mount_point) {
    if (const int error = detach(mount_point, 0)) {
        throw Error::system("unmount", mount_point, error);
    }
}

void exchange_mount(int mount, const std::string& mount_point) {
    int error = attach(mount, mount_point, kBeneath);
    if (error == 0) {
        fault::step("mount.beneath");
        error = detach(mount_point, MNT_DETACH);
    } else if (error == EINVAL) {  // an older kernel, or a mount that nothing may be put beneath
        unmount(mount_point);
        fault::step("mount.unmounted");
        error = attach(mount, mount_point, 0);
    }
    if (error != 0) {
        throw Error::system("put a new mount in the place of that at", mount_point, error);
    }
}

}  // namespace nodesnap
