#include "snapshot/backend/link_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/inode_flags.h"
#include "platform/lease.h"
#include "platform/xattr.h"
#include "snapshot/backend/file_copy.h"
#include "snapshot/backend/nameless_files.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {
namespace {

constexpr int kFile = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME;

Error cannot_link(const std::string& path, int error) {
    return Error::refused("cannot link " + path + " into the snapshot: " + Error::system("link", path, error).message(),
                          "keep the snapshots in a directory of the same mount, project and encryption policy (--snapshot-dir), leave the "
                          "file out of --immutable, or use --snapshot none");
}

std::uint64_t allocated_bytes(const FileStatus& status) {
    constexpr std::uint64_t kSector = 512;
    return status.stx_blocks * kSector;
}

}  // namespace

LinkTree::LinkTree(int tree, int links, const ExcludeRules& immutable, LinkIndexes others, NamelessFiles* nameless)
    : TreeMaker(links, nameless), tree_(tree), immutable_(immutable), others_(std::move(others)) {}

void LinkTree::begin_ahead() {
    phase_ = Phase::kAhead;
    was_ahead_ = true;
}

void LinkTree::begin_held(std::int64_t until_ns) {
    phase_ = Phase::kHeld;
    until_ns_ = until_ns;
}

void LinkTree::end_held() {
    next_stamp_ns();
}

void LinkTree::clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) {
    const std::string place = from.place.whole_path_of(entry.name);
    if (phase_ == Phase::kHeld && was_ahead_) {
        make_room(entry, to, place);
    }
    if (entry.d_type == DT_REG && link(from, entry, to, place, path)) {
        return;
    }
    if (phase_ == Phase::kHeld) {
        InodeClone::clone(from, entry, to, path);
    } else if (entry.d_type == DT_REG) {
        const auto status = stat_at(from.fd.get(), entry.name);
        rest_bytes_ += status ? allocated_bytes(*status) : 0;
    }
}

// False if it is to be copied.
bool LinkTree::link(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& place, const std::string& path) {
    const bool fits = immutable_.matches_tree(place, false);
    Shard& shard = shard_of(entry.ino);
    const std::lock_guard lock(shard.mutex);
    auto known = shard.files.find(entry.ino);
    if (!fits && known == shard.files.end()) {
        return false;
    }
    const FileDescriptor file(try_open_long(from.fd.get(), entry.name, kFile));
    if (!file) {
        const int error = -file.get();
        throw Error::system("open", path, error == ELOOP || error == ENXIO ? ESTALE : error);
    }
    const FileStatus status = stat_fd(file.get(), path);
    if (!S_ISREG(status.stx_mode) || status.stx_ino != entry.ino) {
        throw Error::system("link", path, ESTALE);
    }
    if (known == shard.files.end()) {
        if (++count_ > kLimit) {
            throw Error::failed("more than " + std::to_string(kLimit) + " files fit --immutable",
                                "make the patterns narrower, or use --snapshot none");
        }
        known = shard.files.emplace(entry.ino, Linked{}).first;
    }
    Linked& linked = known->second;
    if (!linked.is_copied && link_open(linked, file.get(), entry, to, place, path)) {
        return true;
    }
    linked.is_copied = phase_ == Phase::kHeld;
    if (linked.is_copied) {
        remove_name(linked, file.get(), entry, to, place);  // that was linked there ahead
    }
    return false;
}

// As soon as one of its names can't be linked none of them is: it stays one file.
bool LinkTree::is_linkable(const Linked& linked, int file, const FileStatus& status, const std::string& path) const {
    if (phase_ != Phase::kHeld || nameless() != nullptr || status.stx_nlink <= others_.links_of(status.stx_ino) + linked.names.size() + 1) {
        return true;
    }
    return (inode_flags(file, path).value_or(0) & (FS_IMMUTABLE_FL | FS_APPEND_FL)) == 0;
}

void LinkTree::remove_name(Linked& linked, int file, const SourceEntry& entry, int to, const std::string& place) const {
    if (std::erase_if(linked.names, [&place](const Name& name) { return name.path == place; }) != 0) {
        note_removal(linked.record, remove_name_of(file, to, entry.name), place);
    }
}

// Returns 0 or an errno.
int LinkTree::add_name(int file, std::uint64_t ino, int to, const std::string& name, const std::string& path) const {
    if (nameless() == nullptr) {
        return entry::link_open(file, to, name);
    }
    try {
        nameless()->put(to, name, open_path("/proc/self/fd/" + std::to_string(file), O_RDONLY | O_NOATIME | O_NONBLOCK), ino, path);
        return 0;
    } catch (const Error& error) {
        if (error.error_number() != EEXIST) {
            throw;
        }
        return EEXIST;
    }
}

RemovedLink LinkTree::remove_name_of(int file, int directory, const std::string& name) const {
    if (nameless() == nullptr) {
        return remove_link(directory, name, file, others_);
    }
    RemovedLink removed;
    removed.before = removed.after = stat_fd(file, name);
    removed.error = remove_made(directory, name);
    return removed;
}

std::optional<FileStatus> LinkTree::status_of(int directory, const std::string& name) const {
    auto status = nameless() != nullptr ? nameless()->status_of(directory, name) : std::nullopt;
    return status ? status : stat_at(directory, name);
}

int LinkTree::try_open_made(int directory, const std::string& name) const {
    return nameless() != nullptr ? nameless()->try_open(directory, name, kFile) : try_open_long(directory, name, kFile);
}

bool LinkTree::link_open(Linked& linked, int file, const SourceEntry& entry, int to, const std::string& place, const std::string& path) {
    const ReadLease lease(file);
    if (lease.error() == EAGAIN) {
        return false;
    }
    if (lease.error() != 0) {
        throw Error::system("take a lease on", path, lease.error());
    }
    const FileStatus before = stat_fd(file, path);
    if (!is_linkable(linked, file, before, path)) {
        return false;
    }
    LinkRecord record = record_of(linked, file, before);
    const auto is_here = [&place](const Name& name) { return name.path == place; };
    auto name = std::find_if(linked.names.begin(), linked.names.end(), is_here);
    const bool is_new = name == linked.names.end();
    if (is_new) {
        fault::step("snapshot.linking");
        const int failed = add_name(file, entry.ino, to, entry.name, path);
        if (failed == EMLINK || failed == EPERM) {  // too many names, or a flag that forbids another
            return false;
        }
        if (failed == ENOENT || failed == EEXIST) {  // it was removed, or replaced, since it was listed
            throw Error::system("link", path, failed);
        }
        if (failed != 0) {
            throw cannot_link(path, failed);
        }
        name = linked.names.insert(linked.names.end(), Name{place});
    }
    const FileStatus after = stat_fd(file, path);
    if (!lease.lasts() || !record.has_content_of(after)) {
        linked.record = record;
        return false;  // somebody is about to write to it
    }
    const Time seen = LinkRecord::of(before, 0).seen;
    const Time now = LinkRecord::of(after, 0).seen;
    // A lease lasts whatever is done to the attributes; what was isn't to pass for the new name's own change.
    if (is_new && nameless() == nullptr ? !only_names_changed(before, after, 1) : seen != now) {
        record = LinkRecord::of(after, record.generation);
    }
    record.seen = now;
    record.all_links = after.stx_nlink;
    if (record.seen != seen) {
        others_.moved(record.ino, seen, record.seen);
    }
    linked.record = record;
    name->confirmed = phase_ == Phase::kHeld;
    fault::step("snapshot.inode-linked");
    return true;
}

// For what has a name that was another inode's when all was listed ahead.
void LinkTree::make_room(const SourceEntry& entry, int to, const std::string& place) {
    const auto there = status_of(to, entry.name);
    if (!there || (there->stx_ino == entry.ino && S_ISREG(there->stx_mode) && entry.d_type == DT_REG)) {
        return;
    }
    if (S_ISDIR(there->stx_mode)) {
        remove_tree(to, entry.name, place);
        return;
    }
    Shard& shard = shard_of(there->stx_ino);
    const std::lock_guard lock(shard.mutex);
    const FileDescriptor file(try_open_made(to, entry.name));
    if (!file) {
        throw Error::system("open", place + " in the snapshot", -file.get());
    }
    const RemovedLink removed = remove_name_of(file.get(), to, entry.name);
    const auto found = shard.files.find(there->stx_ino);
    if (found != shard.files.end()) {
        note_removal(found->second.record, removed, place);
        std::erase_if(found->second.names, [&place](const Name& name) { return name.path == place; });
    }
}

// It is one more change that is our own.
void LinkTree::note_removal(LinkRecord& record, const RemovedLink& removed, const std::string& place) {
    if (removed.error != 0) {
        throw Error::system("remove", place + " from the snapshot", removed.error);
    }
    if (removed.only_ours && record.is_untouched(removed.before)) {
        record.seen = LinkRecord::of(removed.after, 0).seen;
        record.all_links = removed.after.stx_nlink;
    }
}

// As the inode is now: with the last change by somebody else, where it is known that whatever came since was ours.
LinkRecord LinkTree::record_of(const Linked& linked, int file, const FileStatus& status) const {
    if (linked.record.ino != 0 && linked.record.is_untouched(status)) {
        return linked.record;
    }
    return others_.find_untouched(status).value_or(LinkRecord::of(status, inode_generation(file)));
}

// Where files can be cloned that is faster, and misses nothing that is only in memory yet (XFS may hide such data from who asks for holes).
std::vector<UnwrittenRange> LinkTree::give_content(int from, const FileStatus& status, int to, const std::string& path) {
    if (may_clone_ && status.stx_size != 0) {
        const int failed = entry::clone_file(from, to);
        if (failed == 0) {
            return unwritten_of(from, status, to, path);
        }
        may_clone_ = failed != EOPNOTSUPP;
    }
    return copy_file(from, status, to, path, [this] {
        if (until_ns_ != 0 && monotonic_ns() > until_ns_) {
            throw Error::failed("the daemon can't be held as long as it takes to copy what doesn't fit --immutable (--max-downtime)",
                                "allow a longer downtime, name more files that are never written to again, or use --snapshot none");
        }
    });
}

std::uint64_t LinkTree::links_of(const FileStatus& status) const {
    if (!S_ISREG(status.stx_mode) || status.stx_nlink == 1) {
        return status.stx_nlink;
    }
    std::uint64_t ours = others_.links_of(status.stx_ino);
    const Shard& shard = shard_of(status.stx_ino);
    const std::lock_guard lock(shard.mutex);
    if (const auto found = shard.files.find(status.stx_ino); found != shard.files.end()) {
        ours += nameless() != nullptr ? 0 : found->second.names.size();
    }
    return status.stx_nlink > ours ? status.stx_nlink - ours : 1;
}

void LinkTree::finish_directory(int from, int to, const std::string& path) {
    if (phase_ == Phase::kHeld) {
        InodeClone::finish_directory(from, to, path);
        return;
    }
    directories_.add(path);
}

bool LinkTree::is_untouched(const FileStatus& status) const {
    const Shard& shard = shard_of(status.stx_ino);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.files.find(status.stx_ino);
    return found != shard.files.end() && found->second.record.is_untouched(status);
}

// If it is still what was linked there.
void LinkTree::drop(std::uint64_t ino, Linked& linked, const std::string& place) const {
    in_directory_of(tree_, place, [&](int directory, const std::string& name) {
        const FileDescriptor file(try_open_made(directory, name));
        const LinkRecord now = file ? LinkRecord::of(stat_fd(file.get(), place), 0) : LinkRecord{};
        // Otherwise a copy, say, which may have got the number of what was removed.
        if (now.ino == ino && now.born == linked.record.born) {
            note_removal(linked.record, remove_name_of(file.get(), directory, name), place);
        }
    });
}

void LinkTree::settle(int directory, const std::string& path) {
    std::vector<LinkRecord> records;
    for (Shard& shard : shards_) {
        for (auto& [ino, linked] : shard.files) {
            for (const Name& name : linked.names) {
                if (!name.confirmed) {
                    drop(ino, linked, name.path);
                }
            }
            std::erase_if(linked.names, [](const Name& name) { return !name.confirmed; });
            if (!linked.names.empty()) {
                linked.record.links = linked.names.size();
                records.push_back(linked.record);
            }
        }
    }
    directories_.drop_unfinished(tree_);
    std::sort(records.begin(), records.end(), [](const LinkRecord& a, const LinkRecord& b) { return a.ino < b.ino; });
    LinkIndex::write(directory, records, path);
}

}  // namespace nodesnap
