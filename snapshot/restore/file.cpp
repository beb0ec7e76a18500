#include "snapshot/restore/file.h"

#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr int kExisting = O_RDWR | O_NOFOLLOW;
constexpr int kNew = O_RDWR | O_NOFOLLOW | O_CREAT | O_EXCL;

int make_other(const Inode& inode, int directory, const std::string& name) {
    if (inode.type == FileType::kSymlink) {
        const std::string target(reinterpret_cast<const char*>(inode.content.data()), inode.content.size());
        if (target.empty() || target.find('\0') != std::string::npos) {
            throw Error::damaged("the backup", "a symlink's target is impossible");
        }
        return entry::make_symlink(target, directory, name);
    }
    return entry::make_node(directory, name, type_bits(inode.type) | 0600, inode.device_major, inode.device_minor);
}

// A file for what has no place at the destination; its data goes nowhere.
FileDescriptor open_nameless(int directory) {
    const int fd = try_open_long(directory, ".", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) {
        return FileDescriptor(fd);
    }
    constexpr const char* kName = ".nodesnap-nameless";
    auto file = open_at(directory, kName, O_RDWR | O_NOFOLLOW | O_CREAT, 0600);
    static_cast<void>(entry::remove(directory, kName));
    return file;
}

void remove_left(int directory, const RestoreEntry& entry) {
    if (const int error = entry::remove(directory, entry.name); error != 0 && error != ENOENT && !cannot_be_named(error)) {
        throw Error::system("replace", entry.path(), error);
    }
}

// False if the inode has gone, because others have used up its links.
bool add_name(RestoreContext& context, const RestoreEntry& entry, bool mine) {
    const bool added = context.links.link(entry.ino, entry.directory->fd.get(), entry.name, [&entry] { return entry.path(); });
    if (!added && mine) {
        throw Error::failed("cannot link " + entry.path() + ": its inode got all its names at once", "run the restore again");
    }
    return added;
}

}  // namespace

mode_t type_bits(FileType type) {
    switch (type) {
        case FileType::kDirectory:
            return S_IFDIR;
        case FileType::kSymlink:
            return S_IFLNK;
        case FileType::kFifo:
            return S_IFIFO;
        case FileType::kSocket:
            return S_IFSOCK;
        case FileType::kCharacterDevice:
            return S_IFCHR;
        case FileType::kBlockDevice:
            return S_IFBLK;
        default:
            return S_IFREG;
    }
}

RestoreFile::RestoreFile(RestoreContext& context, RestoreEntry entry, Inode inode, std::vector<NamedXattr> xattrs, bool xattrs_complete)
    : context_(context),
      entry_(std::move(entry)),
      inode_(std::move(inode)),
      xattrs_(std::move(xattrs)),
      xattrs_complete_(xattrs_complete) {}

std::uint64_t RestoreFile::data_bytes() const {
    std::uint64_t bytes = inode_.content.size();
    for (const auto& run : inode_.runs) {
        bytes += run.flags == Run::kNone ? run.length : 0;
    }
    return bytes;
}

FileDescriptor RestoreFile::create(bool keep) {
    const int directory = entry_.directory->fd.get();
    if (!keep && context_.basis != nullptr) {
        if (auto present = open_present()) {
            return present;
        }
    }
    if (context_.going_on) {
        if (keep) {
            return open_at(directory, entry_.name, kExisting);
        }
        remove_left(directory, entry_);
    }
    const int fd = try_open_long(directory, entry_.name, kNew, 0600);
    if (cannot_be_named(-fd)) {
        context_.warnings.add(kNameRefused, -fd, path());
        return open_nameless(directory);
    }
    if (fd < 0) {
        throw Error::system("create", path(), -fd);
    }
    return FileDescriptor(fd);
}

bool RestoreFile::make(bool keep) {
    if (!linked()) {
        fd_ = create(keep);
    } else {
        const auto name = RestoreLinks::entry_name(entry_.ino);
        const auto make = [this](int directory, const std::string& as) { return make_linked(directory, as); };
        bool mine = false;
        do {
            mine = context_.links.claim(entry_.ino, make);
            if (mine) {
                context_.links.filling(entry_.ino);
            }
            if (mine && !fd_) {  // an earlier run's
                present_ = context_.has_basis(RestoreBasis::Kind::kInPlace);
                fd_ = open_at(context_.links.directory(), name, present_ ? kExisting : kExisting | O_TRUNC);
            }
        } while (!add_name(context_, entry_, mine));
        if (!mine) {
            return false;
        }
    }
    if (present_) {
        context_.attributes.before_patch(fd_.get(), entry_.ino, inode_, [this] { return path(); });
    }
    context_.attributes.before_data(fd_.get(), inode_, [this] { return path(); });
    if (context_.basis != nullptr) {
        use_basis(keep);
    }
    if (context_.preallocates && !keep && !held() && !present_ && !inode_.map && data_bytes() < inode_.size) {
        set_size();  // XFS reserves space beyond what a write appends, also where a hole is to be
    }
    const auto unread = [](const Run& run) { return run.flags == Run::kDamagedSource; };
    if (inode_.damaged && !inode_.map && std::none_of(inode_.runs.begin(), inode_.runs.end(), unread)) {
        context_.lost.add(path(), LostRange::Cause::kSource, 0, 0);
    }
    return true;
}

void RestoreFile::open_direct() {
    const bool in_place = (inode_.flags & FS_NOCOW_FL) != 0;
    if (!context_.direct_writes && !in_place) {
        return;
    }
    const int fd = linked()
                       ? try_open_long(context_.links.directory(), RestoreLinks::entry_name(entry_.ino), O_WRONLY | O_DIRECT | O_NOFOLLOW)
                       : try_open_long(entry_.directory->fd.get(), entry_.name, O_WRONLY | O_DIRECT | O_NOFOLLOW);
    direct_fd_ = FileDescriptor(fd < 0 ? -1 : fd);
    // Blocks are laid out together, and out of the way of the writes. Holes must stay holes, so only where there are none.
    if (direct_fd_ && context_.preallocates && !held() && inode_.size != 0 && data_bytes() == inode_.size) {
        static_cast<void>(
            entry::allocate(fd_.get(), false, 0, inode_.size));  // a matter of speed only: too little space shows when writing
    }
}

void RestoreFile::set_size() {
    truncate_file(fd_.get(), inode_.size, path());
    size_set_ = true;
}

void RestoreFile::allocate(const Run& run) const {
    if (const int error = entry::allocate(fd_.get(), true, run.offset, run.length); error != 0) {
        if (error == ENOSPC || error == EDQUOT || error == EIO) {
            throw Error::system("allocate space for", path(), error);
        }
        context_.warnings.add("unwritten space", error, path());
    }
}

std::uint64_t RestoreFile::write_inline() {
    if (present_) {
        Bytes there(inode_.content.size() + 1);
        there.resize(pread_some(fd_.get(), there, 0, path()));
        if (there == inode_.content) {
            return 0;
        }
        truncate_file(fd_.get(), 0, path());
    }
    pwrite_all(fd_.get(), inode_.content, 0, path());
    return inode_.content.size();
}

// Some file systems write zeros instead. Of small holes nothing is told: they may be smaller than a block.
void RestoreFile::check_holes() {
    constexpr std::uint64_t kWorthTelling = 1U << 20;
    constexpr std::uint64_t kStatBlock = 512;
    std::uint64_t allocated = inode_.content.size();
    for (const auto& run : inode_.runs) {
        allocated += run.length;
    }
    if (!inode_.map && allocated + kWorthTelling <= inode_.size && stat_fd(fd_.get(), path()).stx_blocks * kStatBlock >= inode_.size) {
        context_.warnings.add("the holes", 0, path());
    }
}

void RestoreFile::finish(std::uint64_t written_end, bool wrote) {
    if (existed_ && (resized_ || (wrote && !same_inline_))) {
        ++context_.files_changed;
    }
    // Setting a size that is there already would take away what is allocated beyond it.
    if (!held() && (written_end > inode_.size || (written_end < inode_.size && !size_set_))) {
        set_size();
    }
    check_holes();
    context_.attributes.apply(fd_.get(), entry_.ino, inode_, xattrs_complete_ ? &xattrs_ : nullptr, [this] { return path(); });
    if (AttributeWriter::needs_seal(inode_)) {
        context_.sealed = true;
    }
    if (linked()) {
        context_.links.filled(entry_.ino);
    }
    direct_fd_.reset();
    replaced_.reset();
    fd_.reset();
}

void restore_other(RestoreContext& context, const RestoreEntry& entry, const Inode& inode, const std::vector<NamedXattr>* xattrs) {
    const auto path = [&entry] { return entry.path(); };
    if (inode.damaged) {
        context.lost.add(entry.path(), LostRange::Cause::kSource, 0, 0);  // of which only the name is known: left out
        return;
    }
    const bool by_number = context.has_basis(RestoreBasis::Kind::kSnapshot);
    if (by_number && entry.name.front() == kHeldLetter) {
        AttributeWriter::drop_xattrs_at(entry.directory->fd.get(), entry.name);
    } else if (inode.links > 1 && !by_number) {
        const auto make = [&inode](int directory, const std::string& name) { return make_other(inode, directory, name); };
        bool mine = false;
        do {
            mine = context.links.claim(entry.ino, make);
        } while (!add_name(context, entry, mine));
        if (!mine) {
            return;
        }
    } else {
        const int directory = entry.directory->fd.get();
        if (context.going_on) {
            remove_left(directory, entry);
        }
        const int error = make_other(inode, directory, entry.name);
        const bool symlink = inode.type == FileType::kSymlink;
        if (error == EPERM || error == EOPNOTSUPP || (symlink && error == ENAMETOOLONG) || cannot_be_named(error)) {
            context.warnings.add(symlink ? kSymlinksRefused : kSpecialRefused, error, entry.path());
            return;
        }
        if (error != 0) {
            throw Error::system("make", entry.path(), error);
        }
    }
    context.attributes.apply_at(entry.directory->fd.get(), entry.name, entry.ino, inode, xattrs, path);
}

}  // namespace nodesnap
