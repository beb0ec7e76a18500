#include "snapshot/backend/link_index.h"

#include <fcntl.h>
#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <type_traits>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/inode_flags.h"
#include "platform/lease.h"
#include "snapshot/backend/clone_files.h"

namespace nodesnap {
namespace {

constexpr const char* kFile = "links.index";
static_assert(std::is_trivially_copyable_v<LinkRecord> && sizeof(LinkRecord) == 104);

Time time_of(const struct statx_timestamp& stamp) {
    return {stamp.tv_sec, stamp.tv_nsec};
}

// The flags that forbid it are the node's.
int remove_name(int directory, const std::string& name, int file) {
    const int failed = entry::remove(directory, name);
    const std::uint32_t flags = failed == EPERM ? inode_flags(file, name).value_or(0) : 0;
    constexpr std::uint32_t kForbidding = FS_IMMUTABLE_FL | FS_APPEND_FL;
    if ((flags & kForbidding) == 0) {
        return failed;
    }
    set_inode_flags(file, flags & ~kForbidding, name);
    const int again = entry::remove(directory, name);
    set_inode_flags(file, flags, name);
    return again;
}

class LinkRemoval : public CloneFiles {
public:
    explicit LinkRemoval(const LinkIndexes& others) : others_(others) {}

private:
    void add(const SourceDirectory& directory, const std::string& name) override {
        const auto status = stat_at(directory.fd.get(), name);
        if (!status || status->stx_nlink == 1) {
            return;
        }
        const FileDescriptor file(try_open_long(directory.fd.get(), name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK));
        if (file) {
            remove_link(directory.fd.get(), name, file.get(), others_);
        }
    }

    const LinkIndexes& others_;
};

}  // namespace

LinkRecord LinkRecord::of(const FileStatus& status, std::uint64_t generation) {
    LinkRecord record;
    record.ino = status.stx_ino;
    record.generation = generation;
    record.size = status.stx_size;
    record.all_links = status.stx_nlink;
    record.modified = time_of(status.stx_mtime);
    record.born = (status.stx_mask & STATX_BTIME) != 0 ? time_of(status.stx_btime) : Time{};
    record.changed = record.seen = time_of(status.stx_ctime);
    return record;
}

bool LinkRecord::has_content_of(const FileStatus& status) const {
    const LinkRecord now = of(status, generation);
    return ino == now.ino && size == now.size && modified == now.modified && born == now.born;
}

bool LinkRecord::is_untouched(const FileStatus& status) const {
    return has_content_of(status) && seen == time_of(status.stx_ctime);
}

bool LinkRecord::is_same(const LinkRecord& other) const {
    return ino == other.ino && generation == other.generation && size == other.size && modified == other.modified && born == other.born &&
           changed == other.changed;
}

void LinkIndex::write(int directory, const std::vector<LinkRecord>& records, const std::string& path) {
    const FileDescriptor file = open_at(directory, kFile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    write_all(file.get(), std::as_bytes(std::span(records)), path);
}

LinkIndex::LinkIndex(int directory, bool writable) {
    const int fd = try_open_long(directory, kFile, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0) {
        file_.reset(fd);
        records_ = stat_fd(fd, kFile).stx_size / sizeof(LinkRecord);
    }
}

std::optional<LinkIndex::Found> LinkIndex::look_up(std::uint64_t ino) const {
    for (std::uint64_t low = 0, high = records_; low < high;) {
        Found found;
        found.at = low + (high - low) / 2;
        const auto bytes = std::as_writable_bytes(std::span(&found.record, 1));
        if (pread_some(file_.get(), bytes, found.at * sizeof(LinkRecord), kFile) != sizeof(LinkRecord)) {
            return std::nullopt;
        }
        if (found.record.ino == ino) {
            return found;
        }
        if (found.record.ino < ino) {
            low = found.at + 1;
        } else {
            high = found.at;
        }
    }
    return std::nullopt;
}

std::optional<LinkRecord> LinkIndex::find(std::uint64_t ino) const {
    try {
        const auto found = look_up(ino);
        return found ? std::optional(found->record) : std::nullopt;
    } catch (const Error&) {
        return std::nullopt;  // announced in the header
    }
}

void LinkIndex::moved(std::uint64_t ino, const Time& before, const Time& after) const {
    try {
        auto found = look_up(ino);
        if (found && found->record.seen == before) {
            found->record.seen = after;
            pwrite_all(file_.get(), std::as_bytes(std::span(&found->record, 1)), found->at * sizeof(LinkRecord), kFile);
        }
    } catch (const Error&) {  // it counts as changed by somebody else then
    }
}

std::optional<LinkRecord> LinkIndexes::find_untouched(const FileStatus& status) const {
    for (const LinkIndex& index : indexes_) {
        if (auto record = index.find(status.stx_ino); record && record->is_untouched(status)) {
            return record;
        }
    }
    return std::nullopt;
}

std::uint64_t LinkIndexes::links_of(std::uint64_t ino) const {
    std::uint64_t links = 0;
    for (const LinkIndex& index : indexes_) {
        const auto record = index.find(ino);
        links += record ? record->links : 0;
    }
    return links;
}

void LinkIndexes::moved(std::uint64_t ino, const Time& before, const Time& after) const {
    for (const LinkIndex& index : indexes_) {
        index.moved(ino, before, after);
    }
}

bool only_names_changed(const FileStatus& before, const FileStatus& after, int names) {
    return before.stx_mode == after.stx_mode && before.stx_uid == after.stx_uid && before.stx_gid == after.stx_gid &&
           std::int64_t{after.stx_nlink} - std::int64_t{before.stx_nlink} == names;
}

RemovedLink remove_link(int directory, const std::string& name, int file, const LinkIndexes& others) {
    RemovedLink removed;
    const ReadLease lease(file);
    removed.before = stat_fd(file, name);
    removed.error = remove_name(directory, name, file);
    removed.after = stat_fd(file, name);
    const LinkRecord was = LinkRecord::of(removed.before, 0);
    removed.only_ours =
        removed.error == 0 && was.has_content_of(removed.after) && only_names_changed(removed.before, removed.after, -1) && lease.lasts();
    if (removed.only_ours) {
        others.moved(was.ino, was.seen, time_of(removed.after.stx_ctime));
    }
    return removed;
}

void remove_links(int tree, const LinkIndexes& others) {
    LinkRemoval removal(others);
    SourceWalk(tree, stat_fd(tree).stx_ino, ExcludeRules(), removal).run();
}

}  // namespace nodesnap
