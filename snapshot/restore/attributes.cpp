#include "snapshot/restore/attributes.h"

#include <linux/fs.h>
#include <sys/stat.h>

#include <cerrno>
#include <limits>
#include <set>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

constexpr std::uint32_t kBeforeData = FS_NOCOW_FL | FS_COMPR_FL | FS_NOCOMP_FL;
constexpr std::uint32_t kSeal = FS_IMMUTABLE_FL | FS_APPEND_FL;
// The others would slow the restore down (FS_SYNC_FL) or are of no matter until it is done.
constexpr std::uint32_t kAfterData =
    FS_SECRM_FL | FS_UNRM_FL | FS_SYNC_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_DIRSYNC_FL | FS_NOTAIL_FL | FS_TOPDIR_FL;
constexpr const char* kLabel = "security.selinux";    // every file has one there
constexpr std::uint64_t kXattrValueLimit = 1U << 20;  // the kernel's own is 64 KiB

struct FlagName {
    std::uint32_t flag;
    const char* name;
};
constexpr FlagName kFlagNames[] = {
    {FS_NOCOW_FL, "nodatacow"},    {FS_COMPR_FL, "compress"},        {FS_NOCOMP_FL, "nocompress"}, {FS_IMMUTABLE_FL, "immutable"},
    {FS_APPEND_FL, "append-only"}, {FS_SECRM_FL, "secure deletion"}, {FS_UNRM_FL, "undelete"},     {FS_SYNC_FL, "sync"},
    {FS_NODUMP_FL, "nodump"},      {FS_NOATIME_FL, "noatime"},       {FS_DIRSYNC_FL, "dirsync"},   {FS_NOTAIL_FL, "notail"},
    {FS_TOPDIR_FL, "topdir"},
};

entry::Times times_of(const Inode& inode) {
    return {inode.accessed.seconds, inode.accessed.nanoseconds, inode.modified.seconds, inode.modified.nanoseconds};
}

}  // namespace

void AttributeWriter::check(int error_number, const char* what, const PathSource& path) {
    if (error_number != 0) {
        warnings_.add(what, error_number, path());
    }
}

void AttributeWriter::before_entries(int directory, const PathSource& path) {
    check(entry::set_mode(directory, 0700), "the mode", path);
    xattr::remove(directory, "system.posix_acl_default", path());
    xattr::remove(directory, "system.posix_acl_access", path());
    xattr::remove(directory, "btrfs.compression", path());
    set_flags(directory, kBeforeData | kAfterData, inherited_flags_, path);
}

void AttributeWriter::before_data(int fd, const Inode& inode, const PathSource& path) {
    if (((inode.flags ^ inherited_flags_) & kBeforeData) != 0) {
        set_flags(fd, kBeforeData, inode.flags, path);
    }
}

bool AttributeWriter::unseal(int fd) {
    const auto present = inode_flags(fd);
    return present && (*present & kSeal) != 0 && set_inode_flags(fd, *present & ~kSeal);
}

void AttributeWriter::before_patch(int fd, std::uint64_t ino, const Inode& inode, const PathSource& path) {
    unseal(fd);
    set_flags(fd, kAfterData, 0, path);  // what is wanted of them is set at the end
    set_flags(fd, kBeforeData & ~static_cast<std::uint32_t>(FS_NOCOW_FL), inode.flags,
              path);  // that one can't be changed of what holds data
    std::set<std::string> wanted;
    if (inode.xattr_count != 0) {
        for_each_xattr(repository_, backup_, ino, [&wanted](const NamedXattr& xattr) { wanted.insert(xattr.name); });
    }
    for (const auto& name : xattr::list(fd, path())) {
        if (!wanted.contains(name) && name != kLabel) {
            try {
                xattr::remove(fd, name, path());
            } catch (const Error& error) {
                warnings_.add("the absence of the attribute " + name, error.error_number(), path());
            }
        }
    }
}

void AttributeWriter::drop_xattrs_at(int directory, const std::string& name) {
    for (const auto& attribute : xattr::list_at(directory, name)) {
        if (attribute != kLabel) {
            xattr::remove_at(directory, name, attribute);
        }
    }
}

// Sets the flags of `mask` as in `wanted`. Where not all of them are possible, each one alone, so that one that isn't doesn't cost the
// others; what is to go first, since some exclude one another (nodatacow and compression).
void AttributeWriter::set_flags(int fd, std::uint32_t mask, std::uint32_t wanted, const PathSource& path) {
    try {
        const auto present = inode_flags(fd);
        if (present && ((*present ^ wanted) & mask) == 0) {
            return;
        }
        if (present && set_inode_flags(fd, (*present & ~mask) | (wanted & mask))) {
            return;
        }
    } catch (const Error&) {
        // one by one below
    }
    for (const bool add : {false, true}) {
        set_each_flag(fd, mask & (add ? wanted : ~wanted), wanted, path);
    }
}

void AttributeWriter::set_each_flag(int fd, std::uint32_t mask, std::uint32_t wanted, const PathSource& path) {
    for (const auto& [flag, name] : kFlagNames) {
        if ((mask & flag) == 0) {
            continue;
        }
        const auto what = std::string("the ") + name + " flag";
        try {
            const auto present = inode_flags(fd).value_or(0);
            if (((present ^ wanted) & flag) != 0 && !set_inode_flags(fd, (present & ~flag) | (wanted & flag))) {
                warnings_.add(what, EOPNOTSUPP, path());
            }
        } catch (const Error& error) {
            warnings_.add(what, error.error_number(), path());
        }
    }
}

void AttributeWriter::apply(int fd, std::uint64_t ino, const Inode& inode, const std::vector<NamedXattr>* xattrs, const PathSource& path) {
    // A new owner clears setuid and capabilities, so it goes first; an ACL changes the mode, so that goes after it.
    const int owner = entry::set_owner(fd, owners_.user(inode.uid), owners_.group(inode.gid));
    check(owner, "the owner", path);
    if (inode.type == FileType::kDirectory && ((inode.flags | inherited_flags_) & kBeforeData) != 0) {
        // Before the attribute that says how to compress, which goes with a change of these flags.
        set_flags(fd, kBeforeData, inode.flags, path);
    }
    set_xattrs(
        ino, inode, xattrs, [fd](const std::string& name, std::span<const std::byte> value) { xattr::set(fd, name, value); }, path);
    check(entry::set_mode(fd, mode_of(inode, owner == 0, path)), "the mode", path);
    check(entry::set_times(fd, times_of(inode)), "the times", path);
    if (times_in_doubt(inode)) {
        check_times(inode, stat_fd(fd, path()), path);
    }
    if (((inode.flags | inherited_flags_) & kAfterData) != 0) {
        set_flags(fd, kAfterData, inode.flags, path);
    }
}

void AttributeWriter::apply_at(int directory, const std::string& name, std::uint64_t ino, const Inode& inode,
                               const std::vector<NamedXattr>* xattrs, const PathSource& path) {
    const int owner = entry::set_owner_at(directory, name, owners_.user(inode.uid), owners_.group(inode.gid));
    check(owner, "the owner", path);
    set_xattrs(
        ino, inode, xattrs,
        [directory, &name](const std::string& attribute, std::span<const std::byte> value) {
            xattr::set_at(directory, name, attribute, value);
        },
        path);
    if (inode.type != FileType::kSymlink) {
        check(entry::set_mode_at(directory, name, mode_of(inode, owner == 0, path)), "the mode", path);
    }
    check(entry::set_times_at(directory, name, times_of(inode)), "the times", path);
    if (const auto found = times_in_doubt(inode) ? stat_at(directory, name) : std::nullopt) {
        check_times(inode, *found, path);
    }
}

void AttributeWriter::probe_times(int directory) {
    constexpr std::uint32_t kOdd = 123'456'789;
    const entry::Times odd{1, kOdd, 1, kOdd};
    exact_times_ = entry::set_times(directory, odd) != 0 || stat_fd(directory).stx_mtime.tv_nsec == kOdd;
}

// The kernel cuts what the file system can't hold without a word. All can hold the years from 1970 to 2038.
bool AttributeWriter::times_in_doubt(const Inode& inode) const {
    const auto plain = [](const Time& time) { return time.seconds >= 0 && time.seconds <= std::numeric_limits<std::int32_t>::max(); };
    return !exact_times_ || !plain(inode.accessed) || !plain(inode.modified);
}

void AttributeWriter::check_times(const Inode& inode, const FileStatus& found, const PathSource& path) {
    if (found.stx_atime.tv_sec != inode.accessed.seconds || found.stx_mtime.tv_sec != inode.modified.seconds) {
        warnings_.add("the exact times", ERANGE, path());
    } else if (found.stx_atime.tv_nsec != inode.accessed.nanoseconds || found.stx_mtime.tv_nsec != inode.modified.nanoseconds) {
        warnings_.add("the fractions of seconds in the times", 0, path());
    }
}

// A program that ran as its owner must not become one that runs as whoever restores it.
std::uint16_t AttributeWriter::mode_of(const Inode& inode, bool owned, const PathSource& path) {
    constexpr std::uint16_t kSetIds = S_ISUID | S_ISGID;
    if (owned || inode.type == FileType::kDirectory || (inode.mode & kSetIds) == 0) {
        return inode.mode;
    }
    warnings_.add("the setuid and setgid bits", EPERM, path());
    return static_cast<std::uint16_t>(inode.mode & ~kSetIds);
}

void AttributeWriter::set_xattrs(std::uint64_t ino, const Inode& inode, const std::vector<NamedXattr>* xattrs, const SetXattr& set,
                                 const PathSource& path) {
    if (inode.xattr_count == 0) {
        return;
    }
    if (xattrs != nullptr) {
        for (const auto& xattr : *xattrs) {
            set_xattr(xattr, set, path);
        }
    } else {
        for_each_xattr(repository_, backup_, ino, [&](const NamedXattr& xattr) { set_xattr(xattr, set, path); });
    }
}

bool AttributeWriter::read_value(const NamedXattr& xattr, Bytes& value, const PathSource& path) {
    if (xattr.value.runs.empty()) {
        value = xattr.value.value;
        return true;
    }
    const auto name = "attribute " + xattr.name + " of " + path();
    try {
        if (xattr.value.size > kXattrValueLimit) {
            throw Error::damaged(name, "its size is impossible");
        }
        value.resize(xattr.value.size);
        read_runs(repository_, xattr.value.runs, value, name);
        return true;
    } catch (const Error& error) {
        if (!lost_.goes_past(error)) {
            throw;
        }
        warnings_.add("the attribute " + xattr.name + ", which is damaged in the repository,", 0, path());
        return false;
    }
}

void AttributeWriter::set_xattr(const NamedXattr& xattr, const SetXattr& set, const PathSource& path) {
    Bytes value;
    if (!read_value(xattr, value, path)) {
        return;
    }
    if (xattr.name.starts_with("system.posix_acl_")) {
        value = owners_.acl(value);
    }
    try {
        set(xattr.name, value);
    } catch (const Error& error) {
        warnings_.add("the attribute " + xattr.name, error.error_number(), path());
    }
}

bool AttributeWriter::needs_seal(const Inode& inode) {
    return (inode.flags & kSeal) != 0;
}

void AttributeWriter::seal(int fd, const Inode& inode, const PathSource& path) {
    if (needs_seal(inode)) {
        set_flags(fd, kSeal, inode.flags, path);
    }
}

}  // namespace nodesnap
