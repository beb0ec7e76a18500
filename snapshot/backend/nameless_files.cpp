#include "snapshot/backend/nameless_files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "snapshot/backend/snapshot_folder.h"

namespace nodesnap {
namespace {

constexpr std::size_t kLimit = 64U << 10;

int reopen(int file, int flags) {
    const int opened = ::open(("/proc/self/fd/" + std::to_string(file)).c_str(), (flags & ~O_NOFOLLOW) | O_CLOEXEC);
    return opened >= 0 ? opened : -errno;
}

}  // namespace

// Half of what may be open is left to the drain.
std::size_t NamelessFiles::limit() {
    return std::min<std::size_t>(kLimit, entry::raise_descriptor_limit(2 * kLimit) / 2);
}

NamelessFiles::NamelessFiles(const std::string& node_directory)
    : node_directory_(open_path(node_directory, O_RDONLY | O_DIRECTORY)), limit_(limit()) {
    const int fd = node_directory_.get();
    hands_down_ = (stat_fd(fd, node_directory).stx_mode & S_ISGID) != 0 || inode_flags(fd, node_directory).value_or(0) != 0 ||
                  xattr::get(fd, "system.posix_acl_default", node_directory).has_value();
}

FileDescriptor NamelessFiles::make(const std::string& path) const {
    FileDescriptor file(try_open_long(node_directory_.get(), "", O_RDWR | O_TMPFILE, 0600));
    if (!file) {
        throw Error::system("make a file without a name for", path, -file.get());
    }
    if (hands_down_) {
        inherit_nothing(file.get(), 0600, path);
    }
    return file;
}

void NamelessFiles::put(int directory, const std::string& name, FileDescriptor file, std::uint64_t ino, const std::string& path) {
    const int made = try_open_long(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (made < 0) {
        throw Error::system("note", path, -made);
    }
    const FileDescriptor stand_in(made);
    const std::uint64_t number = stat_fd(made, path).stx_ino;
    const std::lock_guard lock(mutex_);
    if (files_.size() >= limit_) {
        throw Error::failed("the node directory has more files than can be held open: " + std::to_string(limit_),
                            "use --snapshot none, or keep snapshots inside, in a directory that is excluded (--snapshot-dir)");
    }
    files_.insert_or_assign(number, File{std::move(file), ino});
    stand_ins_.insert_or_assign(ino, number);
}

int NamelessFiles::remove(int directory, const std::string& name) {
    const auto status = stat_at(directory, name);
    const int failed = entry::remove(directory, name);
    if (failed != 0 || !status || status->stx_nlink > 1) {
        return failed;
    }
    File dropped;  // closed without the lock
    const std::lock_guard lock(mutex_);
    if (const auto found = files_.find(status->stx_ino); found != files_.end()) {
        const auto stand_in = stand_ins_.find(found->second.ino);
        if (stand_in != stand_ins_.end() && stand_in->second == found->first) {
            stand_ins_.erase(stand_in);
        }
        dropped = std::move(found->second);
        files_.erase(found);
    }
    return 0;
}

const NamelessFiles::File* NamelessFiles::find(int directory, const std::string& name) const {
    const auto status = stat_at(directory, name);
    if (!status || !S_ISREG(status->stx_mode)) {
        return nullptr;
    }
    const auto found = files_.find(status->stx_ino);
    return found != files_.end() ? &found->second : nullptr;
}

std::optional<std::uint64_t> NamelessFiles::number_of(int directory, const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const File* const found = find(directory, name);
    return found != nullptr ? std::optional(found->ino) : std::nullopt;
}

std::optional<FileStatus> NamelessFiles::status_of(int directory, const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const File* const found = find(directory, name);
    return found != nullptr ? std::optional(stat_fd(found->file.get(), name)) : std::nullopt;
}

int NamelessFiles::try_open(int directory, const std::string& name, int flags) const noexcept {
    try {
        const std::lock_guard lock(mutex_);
        const File* const found = find(directory, name);
        return found != nullptr ? reopen(found->file.get(), flags) : -ENOENT;
    } catch (const Error& error) {
        return error.error_number() != 0 ? -error.error_number() : -EIO;
    }
}

int NamelessFiles::try_open(std::uint64_t ino, int flags) const noexcept {
    const std::lock_guard lock(mutex_);
    const auto stand_in = stand_ins_.find(ino);
    const auto found = stand_in != stand_ins_.end() ? files_.find(stand_in->second) : files_.end();
    return found != files_.end() ? reopen(found->second.file.get(), flags) : -ENOENT;
}

}  // namespace nodesnap
