#include "snapshot/backend/revival.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <cerrno>

#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/inode_flags.h"
#include "platform/lease.h"
#include "snapshot/backend/file_copy.h"

namespace nodesnap {
namespace {

constexpr int kFile = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME;
constexpr std::uint32_t kSeal = FS_IMMUTABLE_FL | FS_APPEND_FL;

void add_flags_to(int fd, std::uint32_t flags, const std::string& path) {
    const std::uint32_t present = inode_flags(fd, path).value_or(0);
    if ((present & flags) != flags && !set_inode_flags(fd, present | flags, path)) {
        throw Error::system("set the inode flags of", path, EOPNOTSUPP);
    }
}

}  // namespace

CloneOrigin Revival::origin_of(int fd, bool readable, const FileStatus& status, const std::string& path) const {
    return has_origin(status) ? read_clone_origin(fd, !readable, path) : InodeClone::origin_of(fd, readable, status, path);
}

// Flags first: those of compression change an extended attribute. Room is given before the times, which that changes.
void Revival::begin_attributes(int to, CloneOrigin& origin, const std::string& path) const {
    if (const std::uint32_t flags = origin.flags & ~kSeal; flags != 0) {
        add_flags_to(to, flags, path);
    }
    allocate(to, origin, path);
}

void Revival::end_file(int to, const FileStatus&, bool several, const CloneOrigin& origin, const std::string& path) {
    const std::uint32_t seal = origin.flags & kSeal;
    if (seal == 0) {
        return;
    }
    if (!several) {
        add_flags_to(to, seal, path);
        return;
    }
    const std::lock_guard lock(sealed_mutex_);
    sealed_[stat_fd(to, path).stx_ino] = seal;
}

void Revival::finish_directory(int from, int to, const std::string& path) {
    InodeClone::finish_directory(from, to, path);
    const std::uint32_t seal = origin_of(from, true, stat_fd(from, path), path).flags & kSeal;
    if (path.empty()) {
        has_sealed_root_ = seal != 0;
    } else if (seal != 0) {
        add_flags_to(to, seal, path);
    }
}

void Revival::finish() {
    DirectoryStream stream(open_at(links_, ".", O_RDONLY | O_DIRECTORY), "links");
    DirectoryEntry found;
    while (stream.next(found)) {
        const FileDescriptor file(found.d_type == DT_REG ? try_open_long(links_, found.name, kFile) : -1);
        if (const int failed = entry::remove(links_, found.name); failed != 0) {
            throw Error::system("remove the spare name of", found.name, failed);
        }
        const auto sealed = file ? sealed_.find(stat_fd(file.get()).stx_ino) : sealed_.end();
        if (sealed != sealed_.end()) {
            add_flags_to(file.get(), sealed->second, found.name);
        }
    }
}

void LinkRevival::clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) {
    if (entry.d_type != DT_REG || !link(from, entry, to, path)) {
        Revival::clone(from, entry, to, path);
    }
}

// False if it is to be copied.
bool LinkRevival::link(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) {
    const std::lock_guard lock(shards_[entry.ino % kShards]);
    const auto listed = stat_at(from.fd.get(), entry.name);
    const auto record = !listed ? std::nullopt : own_.exists() ? own_.find(entry.ino) : all_.find_untouched(*listed);
    if (!record && (own_.exists() || !immutable_.matches_tree(from.place.whole_path_of(entry.name), false))) {
        return false;
    }
    const FileDescriptor file = open_at(from.fd.get(), entry.name, kFile);
    const ReadLease lease(file.get());
    const FileStatus before = stat_fd(file.get(), path);
    if (lease.error() == EAGAIN && !record) {
        return false;
    }
    if (lease.error() != 0) {
        throw Error::refused("the snapshot can't be put in place: " + Error::system("take a lease on", path, lease.error()).message(),
                             lease.error() == EAGAIN ? "something writes to what the snapshot shares with the node: stop it" : "");
    }
    if (record) {
        require_unspoilt(*record, before, path);
    }
    const int failed = entry::link_open(file.get(), to, entry.name);
    if (failed == EMLINK || failed == EPERM) {  // too many names, or a flag that forbids another
        return false;
    }
    if (failed != 0) {
        throw Error::system("link", path, failed);
    }
    const FileStatus after = stat_fd(file.get(), path);
    if (!lease.lasts() || !LinkRecord::of(before, 0).has_content_of(after)) {
        throw Error::refused("the snapshot can't be put in place: something writes to " + path + ", which it shares with the node",
                             "stop that, and try again");
    }
    // Our own link is no change, for none of the snapshots that have the file.
    all_.moved(before.stx_ino, LinkRecord::of(before, 0).seen, LinkRecord::of(after, 0).seen);
    fault::step("rollback.inode-linked");
    return true;
}

bool LinkRevival::has_origin(const FileStatus& status) const {
    const bool is_link = S_ISREG(status.stx_mode) && own_.exists() && own_.find(status.stx_ino);
    return !is_link && Revival::has_origin(status);
}

std::vector<UnwrittenRange> LinkRevival::give_content(int from, const FileStatus& status, int to, const std::string& path) {
    return copy_file(from, status, to, path, [] {});
}

void require_unspoilt(const LinkRecord& record, const FileStatus& status, const std::string& path) {
    if (!record.has_content_of(status)) {
        throw Error::refused("the snapshot isn't what the node was any more: " + path +
                                 " was changed, although its name fits --immutable, so that the snapshot shares it with the node",
                             "choose another snapshot, or restore a backup with nodesnap restore --delta");
    }
}

}  // namespace nodesnap
