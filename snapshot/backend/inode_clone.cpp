#include "snapshot/backend/inode_clone.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/backend/nameless_files.h"
#include "snapshot/drain/inode_reader.h"

namespace nodesnap {
namespace {

// A FIFO may have taken the file's place: opening it must not wait for a writer.
constexpr int kFile = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME;
constexpr int kOther = O_PATH | O_NOFOLLOW;

void check(const char* what, int error, const std::string& path) {
    if (error != 0) {
        throw Error::system(what, "the clone of " + path, error);
    }
}

Error cannot_clone(const std::string& path, int error) {
    const bool never = error == EINVAL || error == EOPNOTSUPP || error == EXDEV || error == ETXTBSY || error == EISDIR;
    return Error::system("clone", path, error,
                         never ? "such a file (one that is used for swapping, or lies on another device of the file system) can't be "
                                 "cloned: leave it out with --exclude, or keep the node on btrfs"
                               : "");
}

// The time of access is the origin's: that of a clone may have changed since.
entry::Times times_of(const FileStatus& status, const CloneOrigin& origin) {
    return {origin.accessed.seconds, origin.accessed.nanoseconds, status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec};
}

// What is made belongs to who made it, and mostly that is right already.
bool has_other_owner(const FileStatus& status) {
    return status.stx_uid != ::geteuid() || status.stx_gid != ::getegid();
}

// Data that can't be rewritten in place, and such that can, don't share extents (btrfs): the clone must be what the file is.
void match_copy_on_write(int clone, std::uint32_t flags, const std::string& path) {
    const std::uint32_t present = inode_flags(clone, path).value_or(0);
    if (((present ^ flags) & FS_NOCOW_FL) != 0) {
        set_inode_flags(clone, (present & ~std::uint32_t{FS_NOCOW_FL}) | (flags & FS_NOCOW_FL), "the clone of " + path);
    }
}

}  // namespace

InodeClone::InodeClone(int links, NamelessFiles* nameless) : links_(links), nameless_(nameless) {}

int InodeClone::remove_made(int to, const std::string& name) const {
    return nameless_ != nullptr ? nameless_->remove(to, name) : entry::remove(to, name);
}

FileDescriptor InodeClone::create(int to, const std::string& name, const std::string& path) const {
    if (nameless_ != nullptr) {
        return nameless_->make(path);
    }
    const int made = try_open_long(to, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (made < 0) {
        throw Error::system("create", "the clone of " + path, -made);
    }
    return FileDescriptor(made);
}

CloneOrigin InodeClone::origin_of(int fd, bool readable, const FileStatus& status, const std::string& path) const {
    Inode inode = inode_of(status);
    if (readable) {
        add_flags(inode, fd, path);
    }
    CloneOrigin origin;
    origin.ino = status.stx_ino;
    origin.generation = inode.generation;
    origin.flags = inode.flags;
    origin.links = inode.links;
    origin.accessed = inode.accessed;
    origin.changed = inode.changed;
    origin.born = inode.born;
    return origin;
}

void InodeClone::give_origin(int to, bool o_path, const CloneOrigin& origin, const std::string& path) const {
    write_clone_origin(to, o_path, origin, "the clone of " + path);
}

void InodeClone::clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) {
    const bool regular = entry.d_type == DT_REG;
    const int opened = try_open_long(from.fd.get(), entry.name, regular ? kFile : kOther);
    if (opened < 0) {
        throw Error::system("open", path, opened == -ELOOP || opened == -ENXIO ? ESTALE : -opened);
    }
    const FileDescriptor fd(opened);
    const FileStatus status = stat_fd(opened, path);
    if (IFTODT(status.stx_mode) != entry.d_type) {
        throw Error::system("clone", path, ESTALE);
    }
    if (links_of(status) > 1) {
        clone_linked(entry, status, opened, to, path);
    } else {
        make(entry, status, opened, to, path);
    }
}

void InodeClone::clone_linked(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path) {
    const std::uint64_t generation = entry.d_type == DT_REG ? inode_generation(opened) : 0;
    const std::string key = std::to_string(status.stx_ino) + "." + std::to_string(generation) + "." + std::to_string(round_);
    const std::lock_guard lock(links_mutex_);
    const int failed = entry::link(links_, key, to, entry.name);
    if (failed == ENOENT) {
        make(entry, status, opened, to, path);
        check("link", entry::link(to, entry.name, links_, key), path);
    } else {
        check("link", failed, path);
    }
}

void InodeClone::make(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path) {
    if (entry.d_type == DT_REG) {
        make_file(entry, status, opened, to, path);
    } else {
        make_other(entry, status, opened, to, path);
    }
}

void InodeClone::make_file(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path) {
    FileDescriptor clone = create(to, entry.name, path);
    const int made = clone.get();
    CloneOrigin origin = origin_of(opened, true, status, path);
    origin.links = links_of(status);
    match_copy_on_write(made, origin.flags, path);
    const std::vector<UnwrittenRange> unwritten = give_content(opened, status, made, path);
    origin.unwritten.insert(origin.unwritten.end(), unwritten.begin(), unwritten.end());
    if (origin.unwritten.size() > CloneOrigin::kUnwrittenLimit) {
        allocate(made, origin, path);
    }
    give_attributes(opened, status, made, origin, path);
    end_file(made, status, links_of(status) > 1, origin, path);
    if (nameless_ != nullptr) {
        nameless_->put(to, entry.name, std::move(clone), origin.ino, path);
    }
}

void InodeClone::allocate(int to, CloneOrigin& origin, const std::string& path) {
    for (const UnwrittenRange& range : origin.unwritten) {
        check("allocate room for", entry::allocate(to, true, range.offset, range.length), path);
    }
    origin.unwritten.clear();
}

void InodeClone::give_attribute(int to, const SourceXattr& attribute, const std::string& path) const {
    try {
        xattr::set(to, attribute.name, attribute.value, "the clone of " + path);
    } catch (const Error& error) {
        if (nameless_ == nullptr || error.error_number() != EOPNOTSUPP) {
            throw;
        }
        throw Error::refused("the directory " + path + " has an attribute, " + attribute.name + ", that this kernel can't keep in memory",
                             "use --snapshot none, or keep snapshots inside, in a directory that is excluded (--snapshot-dir)");
    }
}

// Of a regular file or directory. A new owner clears setuid and capabilities, so it goes first; an ACL changes the mode, so it goes after
// that; the times are last.
void InodeClone::give_attributes(int from, const FileStatus& status, int to, CloneOrigin& origin, const std::string& path) const {
    if (has_other_owner(status)) {
        check("set the owner of", entry::set_owner(to, status.stx_uid, status.stx_gid), path);
    }
    check("set the mode of", entry::set_mode(to, status.stx_mode & 07777), path);
    begin_attributes(to, origin, path);
    for (const SourceXattr& attribute : read_xattrs(from, false, path)) {
        give_attribute(to, attribute, path);
    }
    give_origin(to, false, origin, path);
    check("set the times of", entry::set_times(to, times_of(status, origin)), path);
}

// The kernel clones data, and leaves holes where there is allocated space without any (XFS), or beyond the end of the file (all).
std::vector<UnwrittenRange> InodeClone::unwritten_of(int file, const FileStatus& status, int clone, const std::string& path) {
    std::vector<UnwrittenRange> ranges;
    if (stat_fd(clone, path).stx_blocks == status.stx_blocks) {
        return ranges;
    }
    ExtentReader extents(file, path);
    for (Extent extent; extents.next(extent);) {
        if (!extent.unwritten()) {
            continue;
        }
        if (!ranges.empty() && ranges.back().offset + ranges.back().length == extent.logical) {
            ranges.back().length += extent.length;
        } else {
            ranges.push_back({extent.logical, extent.length});
        }
    }
    return ranges;
}

std::vector<UnwrittenRange> InodeClone::give_content(int from, const FileStatus& status, int to, const std::string& path) {
    if (status.stx_size != 0) {
        if (const int failed = entry::clone_file(from, to); failed != 0) {
            throw cannot_clone(path, failed);
        }
    }
    return unwritten_of(from, status, to, path);
}

void InodeClone::make_other(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path) const {
    if (S_ISLNK(status.stx_mode)) {
        check("make", entry::make_symlink(read_link(opened, "", path), to, entry.name), path);
    } else {
        const mode_t type = status.stx_mode & S_IFMT;
        check("make", entry::make_node(to, entry.name, type | 0600, status.stx_rdev_major, status.stx_rdev_minor), path);
    }
    const FileDescriptor made = open_at(to, entry.name, kOther);
    if (has_other_owner(status)) {
        check("set the owner of", entry::set_owner_at(to, entry.name, status.stx_uid, status.stx_gid), path);
    }
    if (!S_ISLNK(status.stx_mode)) {
        check("set the mode of", entry::set_mode_at(to, entry.name, status.stx_mode & 07777), path);
    }
    for (const SourceXattr& attribute : read_xattrs(opened, true, path)) {
        xattr::set_o_path(made.get(), attribute.name, attribute.value, "the clone of " + path);
    }
    const CloneOrigin origin = origin_of(opened, false, status, path);
    give_origin(made.get(), true, origin, path);
    check("set the times of", entry::set_times_at(to, entry.name, times_of(status, origin)), path);
}

void InodeClone::finish_directory(int from, int to, const std::string& path) {
    const FileStatus status = stat_fd(from, path);
    CloneOrigin origin = origin_of(from, true, status, path);
    give_attributes(from, status, to, origin, path);
}

}  // namespace nodesnap
