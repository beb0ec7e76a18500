// The part of file.h that makes use of what is there already.
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/restore/file.h"
#include "snapshot/restore/place.h"
#include "snapshot/restore/shape.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr int kPresent = O_RDWR | O_NOFOLLOW | O_NONBLOCK;
constexpr int kOld = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME;

// One that may not be written to because of its flags or its mode can be changed all the same.
int open_to_write(int directory, const std::string& name) {
    int fd = try_open_long(directory, name, kPresent);
    if (fd != -EPERM && fd != -EACCES && fd != -EROFS) {
        return fd;
    }
    const FileDescriptor sealed(std::max(try_open_long(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), -1));
    if (sealed) {
        AttributeWriter::unseal(sealed.get());
        fd = try_open_long(directory, name, kPresent);
    }
    return fd;
}

bool allocated_beyond(int fd, std::uint64_t size, const std::string& path) {
    constexpr std::uint64_t kStatBlock = 512;
    return stat_fd(fd, path).stx_blocks * kStatBlock > (size + kBlock - 1) / kBlock * kBlock;
}

}  // namespace

// The file itself, if it is there and can be changed into what is wanted; what is in the way otherwise is removed. In place a file of
// several names can't, since the others may be to hold something else; nor one whose flags can only be set while it is empty.
FileDescriptor RestoreFile::open_present() {
    const bool in_place = context_.has_basis(RestoreBasis::Kind::kInPlace);
    if (!in_place && (!context_.has_basis(RestoreBasis::Kind::kSnapshot) || entry_.name.front() != kHeldLetter)) {
        return {};
    }
    const int directory = entry_.directory->fd.get();
    if (in_place && entry_.directory == context_.gates_directory) {
        remember_replaced(open_gate_away());
    }
    const int opened = open_to_write(directory, entry_.name);
    if (opened < 0) {
        if (in_place) {
            return {};  // whatever it is, it is removed
        }
        throw Error::system("open", path(), -opened);
    }
    FileDescriptor fd(opened);
    const auto status = stat_fd(opened, path());
    existed_ = S_ISREG(status.stx_mode);
    resized_ = existed_ && status.stx_size != inode_.size;
    if (in_place && (!S_ISREG(status.stx_mode) || status.stx_nlink != 1 || changes_cow(opened, inode_))) {
        AttributeWriter::unseal(opened);
        remember_replaced(std::move(fd));
        return {};
    }
    if (!in_place && changes_cow(opened, inode_)) {
        truncate_file(opened, 0, path());
    }
    present_ = true;
    return fd;
}

// What is lost in the repository may be only there. Where that isn't accepted, it isn't removed before the packs are seen to be there.
void RestoreFile::remember_replaced(FileDescriptor file) {
    if (!file || !S_ISREG(stat_fd(file.get(), path()).stx_mode)) {
        return;
    }
    if (context_.lost.accepted()) {
        replaced_ = std::move(file);
        return;
    }
    try {
        RestoreParts all(context_.repository, inode_, 0);
        for (RunPart part; all.next(part);) {
            if (part.run.flags == Run::kNone) {
                context_.repository.packs().get(layout::PackKind::kData, part.run.pack);
            }
        }
    } catch (const Error& error) {
        static_cast<void>(context_.lost.goes_past(error));  // so that it is known what stopped it
        throw;
    }
}

// In place: the gate file of this name, which was moved away.
FileDescriptor RestoreFile::open_gate_away() const {
    const auto& gates = context_.gate_files;
    const auto found = std::find(gates.begin(), gates.end(), entry_.name);
    if (found == gates.end()) {
        return {};
    }
    return FileDescriptor(std::max(try_open_long(context_.old_gates, old_gate_name(found - gates.begin()), kOld), -1));
}

// For RestoreLinks: the inode of several names. In place it is the one that the first of these names has, unless that was taken for
// another, or further names show that it can't be.
int RestoreFile::make_linked(int directory, const std::string& as) {
    if (context_.has_basis(RestoreBasis::Kind::kInPlace)) {
        const int from = entry_.directory->fd.get();
        FileDescriptor fd(std::max(open_to_write(from, entry_.name), -1));
        if (fd && S_ISREG(stat_fd(fd.get(), path()).stx_mode)) {
            existed_ = true;
            resized_ = stat_fd(fd.get(), path()).stx_size != inode_.size;
        }
        if (fd && S_ISREG(stat_fd(fd.get(), path()).stx_mode) && !changes_cow(fd.get(), inode_) &&
            context_.links.take_present(stat_fd(fd.get(), path()).stx_ino)) {
            AttributeWriter::unseal(fd.get());
            const int error = entry::link(from, entry_.name, directory, as);
            if (error == 0) {
                fd_ = std::move(fd);
                present_ = true;
                return 0;
            }
            if (error == EEXIST) {
                return error;
            }
        }
        remember_replaced(std::move(fd));
    }
    const int fd = try_open_long(directory, as, O_RDWR | O_NOFOLLOW | O_CREAT | O_EXCL, 0600);
    fd_ = FileDescriptor(fd < 0 ? -1 : fd);
    return fd < 0 ? -fd : 0;
}

void RestoreFile::truncate_file(int fd, std::uint64_t size, const std::string& path) {
    if (const int error = entry::truncate(fd, size); error != 0) {
        throw Error::system("set the size of", path, error);
    }
}

// Finds out what the file holds, or gets it from the old directory, and gives it its size and holes. Content that lies in the metadata is
// left to write_inline().
void RestoreFile::use_basis(bool keep) {
    const bool known = present_ && context_.has_basis(RestoreBasis::Kind::kSnapshot);
    if (known) {
        before_ = load_inode(context_.repository, *context_.basis->before, entry_.ino, FileType::kRegular);
    }
    const bool inline_now = !inode_.content.empty() || inode_.run_count == 0;
    const bool inline_before = before_ && (!before_->content.empty() || changes_cow_of(*before_));
    if (inline_now || inline_before) {
        if (!present_ && !keep && context_.has_basis(RestoreBasis::Kind::kClone)) {
            compare_inline();
        }
        if (present_ && inode_.content.empty()) {
            truncate_file(fd_.get(), 0, path());
        }
        return;
    }
    if (!present_ && !keep && (!context_.has_basis(RestoreBasis::Kind::kClone) || !clone_old())) {
        return;
    }
    held_ = known ? Held::kKnown : Held::kUnknown;
    const bool resized = !known || before_->size != inode_.size;
    if (resized) {
        if (present_ && !known && allocated_beyond(fd_.get(), inode_.size, path())) {
            truncate_file(fd_.get(), inode_.size + kBlock, path());  // some file systems keep it where the size stays
        }
        set_size();
    }
    size_set_ = true;
    const int error = known ? shape_known(context_.repository, inode_, *before_, fd_.get(), resized, path())
                            : shape_unknown(context_.repository, inode_, fd_.get(), 0, path());
    if (error != 0) {
        context_.warnings.add("the holes", error, path());
    }
}

bool RestoreFile::changes_cow_of(const Inode& before) const {
    return ((before.flags ^ inode_.flags) & FS_NOCOW_FL) != 0;
}

// The file of its path in the old directory; none if there is none.
FileDescriptor RestoreFile::open_old() {
    const auto old_path = entry_.directory->place.whole_path_of(entry_.name);
    FileDescriptor old(std::max(try_open_long(context_.basis->old_root, old_path, kOld), -1));
    if (!old) {
        return {};
    }
    const auto status = stat_fd(old.get(), old_path);
    existed_ = S_ISREG(status.stx_mode);
    resized_ = existed_ && status.stx_size != inode_.size;
    return existed_ ? std::move(old) : FileDescriptor();
}

// False if there is nothing to begin with.
bool RestoreFile::clone_old() {
    FileDescriptor old = open_old();
    if (!old || stat_fd(old.get(), path()).stx_size == 0) {
        return false;
    }
    if (entry::clone_file(old.get(), fd_.get()) == 0) {
        return true;
    }
    remember_replaced(std::move(old));
    return false;
}

// Content that lies in the metadata is written anyway; what was there only tells whether that changes anything.
void RestoreFile::compare_inline() {
    const FileDescriptor old = open_old();
    if (old && !resized_ && !inode_.content.empty()) {
        Bytes there(inode_.content.size());
        there.resize(pread_some(old.get(), there, 0, path()));
        same_inline_ = there == inode_.content;
    }
}

RestoreParts RestoreFile::parts(std::uint64_t start) const {
    return held_ == Held::kKnown ? RestoreParts(context_.repository, inode_, *before_) : RestoreParts(context_.repository, inode_, start);
}

}  // namespace nodesnap
