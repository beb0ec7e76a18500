#include "platform/file_system.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap {
namespace {

std::string type_name(unsigned long magic) {
    static constexpr std::pair<unsigned long, const char*> kTypes[] = {
        {0x9123683e, "btrfs"}, {0xef53, "ext4"},     {0x58465342, "xfs"},      {0x01021994, "tmpfs"}, {0x794c7630, "overlay"},
        {0x6969, "nfs"},       {0xff534d42, "cifs"}, {0xfe534d42, "smb"},      {0x65735546, "fuse"},  {0x2fc12fc1, "zfs"},
        {0xf2f52010, "f2fs"},  {0x01021997, "9p"},   {0xca451a4e, "bcachefs"}, {0x858458f6, "ramfs"}, {0x4d44, "vfat"},
        {0x2011bab0, "exfat"}, {0x9660, "iso9660"},  {0x73717368, "squashfs"}, {0xe0f5e1e2, "erofs"}, {0x00c36400, "ceph"},
        {0x5346544e, "ntfs"},  {0x3434, "nilfs2"},   {0x3153464a, "jfs"},
    };
    for (const auto& [known, name] : kTypes) {
        if (known == magic) {
            return name;
        }
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "0x%lx", magic);
    return text.data();
}

std::string uuid_text(const unsigned char* bytes) {
    std::array<char, 40> text{};
    std::size_t at = 0;
    for (std::size_t i = 0; i < 16; ++i) {
        at += static_cast<std::size_t>(
            std::snprintf(text.data() + at, text.size() - at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]));
    }
    return text.data();
}

// FS_IOC_GETFSUUID of Linux 6.9, which the headers of older systems lack.
struct FsUuid2 {
    std::uint8_t length;
    std::uint8_t uuid[16];
};
// EXT4_IOC_GETFSUUID of Linux 6.0, in no public header.
struct Ext4FsUuid {
    std::uint32_t length;
    std::uint32_t flags;
    std::uint8_t uuid[16];
};
struct Ext4FsUuidHeader {
    std::uint32_t length;
    std::uint32_t flags;
};
// XFS_IOC_FSGEOMETRY_V1, which all kernels know, of a header that isn't always installed.
struct XfsGeometry {
    std::uint32_t sizes[8];
    std::uint64_t blocks[4];
    std::uint8_t uuid[16];
    std::uint32_t more[7];
};
static_assert(sizeof(XfsGeometry) == 112);

std::string uuid_by_ioctl(int fd) {
    FsUuid2 general{};
    if (::ioctl(fd, _IOR(0x15, 0, FsUuid2), &general) == 0 && general.length == 16) {
        return uuid_text(general.uuid);
    }
    Ext4FsUuid ext4{};
    ext4.length = 16;
    // The ioctl's number has the size of the structure without the flexible array at its end.
    if (::ioctl(fd, _IOR('f', 44, Ext4FsUuidHeader), &ext4) == 0 && ext4.length == 16) {
        return uuid_text(ext4.uuid);
    }
    XfsGeometry xfs{};
    if (::ioctl(fd, _IOR('X', 100, XfsGeometry), &xfs) == 0) {
        return uuid_text(xfs.uuid);  // what statfs() says of XFS is the number of the device, which a rollback changes
    }
    return "";
}

// By udev's links to the device that the path's mount names.
std::string uuid_by_device(const std::string& path) {
    struct stat device {};
    const Mount mount = mount_of(path);
    if (!mount.source.starts_with("/dev/") || ::stat(mount.source.c_str(), &device) != 0) {
        return "";
    }
    const std::string links = "/dev/disk/by-uuid";
    if (!stat_path(links)) {
        return "";
    }
    DirectoryStream stream(open_path(links, O_RDONLY | O_DIRECTORY), links);
    DirectoryEntry entry;
    while (stream.next(entry)) {
        struct stat linked {};
        if (::stat((links + "/" + entry.name).c_str(), &linked) == 0 && linked.st_rdev == device.st_rdev) {
            return entry.name;
        }
    }
    return "";
}

}  // namespace

FileSystem file_system_of(int fd, const std::string& path_for_errors) {
    struct statfs status {};
    if (::fstatfs(fd, &status) != 0) {
        throw Error::system("stat the file system of", path_for_errors, errno);
    }
    FileSystem system;
    system.type = type_name(static_cast<unsigned long>(status.f_type) & 0xffffffff);
    system.block_bytes = static_cast<std::uint32_t>(status.f_bsize);
    const auto unit = static_cast<std::uint64_t>(status.f_frsize != 0 ? status.f_frsize : status.f_bsize);
    system.total_bytes = status.f_blocks * unit;
    system.free_bytes = status.f_bavail * unit;
    system.total_inodes = status.f_files;
    system.free_inodes = status.f_ffree;
    system.read_only = (static_cast<unsigned long>(status.f_flags) & ST_RDONLY) != 0;
    return system;
}

FileSystem file_system_of(const std::string& path) {
    return file_system_of(open_path(path, O_PATH).get(), path);
}

std::string file_system_uuid_of(const std::string& path) {
    const FileDescriptor any = open_path(path, O_PATH);
    const auto status = stat_fd(any.get(), path);
    if (S_ISDIR(status.stx_mode) || S_ISREG(status.stx_mode)) {
        const FileDescriptor fd = open_path(path, O_RDONLY | O_NONBLOCK);
        std::string uuid = btrfs::is_btrfs(fd.get()) ? btrfs::fs_uuid(fd.get()) : uuid_by_ioctl(fd.get());
        if (!uuid.empty()) {
            return uuid;
        }
    }
    if (std::string uuid = uuid_by_device(path); !uuid.empty()) {
        return uuid;
    }
    struct statfs system {};
    if (::fstatfs(any.get(), &system) != 0) {
        throw Error::system("stat the file system of", path, errno);
    }
    std::array<std::uint32_t, 2> id{};
    static_assert(sizeof(id) == sizeof(system.f_fsid));
    std::memcpy(id.data(), &system.f_fsid, sizeof(id));
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "fsid-%08x%08x", id[1], id[0]);
    return text.data();
}

}  // namespace nodesnap
