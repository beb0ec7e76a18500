#include "snapshot/drain/inode_reader.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {
namespace {

// What an operator or a daemon has set on purpose. Left out: what the file system reports about its own state (extents, inline data,
// encryption).
constexpr std::uint32_t kKeptFlags = FS_SECRM_FL | FS_UNRM_FL | FS_COMPR_FL | FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL |
                                     FS_NOATIME_FL | FS_NOCOMP_FL | FS_JOURNAL_DATA_FL | FS_NOTAIL_FL | FS_DIRSYNC_FL | FS_TOPDIR_FL |
                                     FS_NOCOW_FL | FS_PROJINHERIT_FL;

Time time_of(const struct statx_timestamp& stamp) {
    return {stamp.tv_sec, stamp.tv_nsec};
}

}  // namespace

Inode inode_of(const FileStatus& status) {
    Inode inode;
    inode.type = file_type_of(static_cast<std::uint8_t>(IFTODT(status.stx_mode)));
    inode.mode = status.stx_mode & 07777;
    inode.uid = status.stx_uid;
    inode.gid = status.stx_gid;
    inode.size = inode.type == FileType::kRegular ? status.stx_size : 0;
    inode.links = status.stx_nlink;
    inode.device_major = status.stx_rdev_major;
    inode.device_minor = status.stx_rdev_minor;
    inode.accessed = time_of(status.stx_atime);
    inode.modified = time_of(status.stx_mtime);
    inode.changed = time_of(status.stx_ctime);
    if ((status.stx_mask & STATX_BTIME) != 0) {
        inode.born = time_of(status.stx_btime);
    }
    return inode;
}

void add_flags(Inode& inode, int fd, const std::string& path) {
    inode.flags = inode_flags(fd, path).value_or(0) & kKeptFlags;
    inode.generation = inode_generation(fd);
}

SourceInode read_source_inode(int fd, bool readable, const CloneIndex* clones, const std::string& path) {
    const FileStatus status = stat_fd(fd, path);
    SourceInode source;
    source.ino = status.stx_ino;
    source.inode = inode_of(status);
    // Only of regular files: a directory of a tree in memory may have any number.
    const auto link = clones != nullptr && S_ISREG(status.stx_mode) ? clones->link(status.stx_ino) : std::nullopt;
    if (link) {
        add_flags(source.inode, fd, path);
        source.inode.links = link->links;
        source.inode.changed = link->changed;
    } else if (clones != nullptr) {
        CloneOrigin origin = read_clone_origin(fd, !readable, path);
        source.ino = origin.ino;
        apply(origin, source.inode);
        source.unwritten = std::move(origin.unwritten);
    } else if (readable) {
        add_flags(source.inode, fd, path);
    }
    return source;
}

std::vector<SourceXattr> read_xattrs(int fd, bool o_path, const std::string& path) {
    std::vector<SourceXattr> result;
    for (std::string& name : o_path ? xattr::list_o_path(fd, path) : xattr::list(fd, path)) {
        if (name == kCloneOriginAttribute) {
            continue;
        }
        auto value = o_path ? xattr::get_o_path(fd, name, path) : xattr::get(fd, name, path);
        if (value) {
            result.push_back({std::move(name), std::move(*value)});
        }
    }
    return result;
}

}  // namespace nodesnap
