#include "snapshot/backend/clone_ahead.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {

CloneAhead::CloneAhead(int node, std::string node_directory, int tree, int links, NamelessFiles* nameless)
    : TreeMaker(links, nameless), node_(node), tree_(tree), node_directory_(std::move(node_directory)) {}

void CloneAhead::begin_ahead() {
    phase_ = Phase::kAhead;
    stamp_ = LiveStamp::take(node_, node_directory_);
}

void CloneAhead::begin_held(std::int64_t) {
    phase_ = Phase::kHeld;
    stamp_counts_ = stamp_ && stamp_->counts();
    forget_links();
}

void CloneAhead::clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) {
    const std::string place = from.place.whole_path_of(entry.name);
    if (phase_ == Phase::kAhead) {
        clone_ahead(from, entry, to, place, path);
    } else if (!stamp_) {
        InodeClone::clone(from, entry, to, path);
    } else if (entry.d_type != DT_REG || !keep(from, entry, to, place, path)) {
        make_room(to, entry.name, place);
        InodeClone::clone(from, entry, to, path);
    }
}

// The place is noted before anything is made there, so that whatever is left of a file that goes meanwhile is dropped.
void CloneAhead::clone_ahead(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& place,
                             const std::string& path) {
    const auto status = entry.d_type == DT_REG ? stat_at(from.fd.get(), entry.name) : std::nullopt;
    if (!status || status->stx_ino != entry.ino || count_ >= kLimit) {
        return;
    }
    Shard& shard = shard_of(entry.ino);
    {
        const std::lock_guard lock(shard.mutex);
        const auto [found, is_new] = shard.files.try_emplace(entry.ino, Cloned{LiveStatus::of(inode_of(*status)), {}, {}});
        found->second.names.push_back({place});
        count_ += is_new ? 1 : 0;
    }
    InodeClone::clone(from, entry, to, path);
    const std::lock_guard lock(shard.mutex);
    for (Name& name : shard.files.at(entry.ino).names) {
        name.made |= name.path == place;
    }
    fault::step("snapshot.cloned-ahead");
}

// Whether what was made ahead at that place is what is to be there.
bool CloneAhead::keep(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& place, const std::string& path) {
    Shard& shard = shard_of(entry.ino);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.files.find(entry.ino);
    if (found == shard.files.end()) {
        return false;
    }
    Cloned& cloned = found->second;
    if (!cloned.is_kept) {
        cloned.is_kept = is_unchanged(from, entry, cloned);
    }
    if (!*cloned.is_kept) {
        return false;
    }
    const auto is_here = [&place](const Name& name) { return name.path == place; };
    if (const auto name = std::find_if(cloned.names.begin(), cloned.names.end(), is_here); name != cloned.names.end()) {
        name->kept = true;
        return true;
    }
    // One more name of it: a directory above was renamed. Where it was made another file's clone may be by now.
    const auto other = std::find_if(cloned.names.begin(), cloned.names.end(), [](const Name& name) { return name.kept; });
    if (other == cloned.names.end()) {
        cloned.is_kept = false;
        return false;
    }
    make_room(to, entry.name, place);
    if (const int failed = entry::link(tree_, other->path, to, entry.name); failed != 0) {
        throw Error::system("link", "the clone of " + path, failed);
    }
    return true;
}

// Asked once for each file, by whoever comes to it first: while the daemon is held the answer stays the same.
bool CloneAhead::is_unchanged(const SourceDirectory& from, const SourceEntry& entry, const Cloned& cloned) const {
    const auto status = stat_at(from.fd.get(), entry.name);
    return stamp_counts_ && status && status->stx_ino == entry.ino &&
           std::all_of(cloned.names.begin(), cloned.names.end(), [](const Name& name) { return name.made; }) &&
           stamp_->is_unchanged(entry.ino, cloned.status, LiveStatus::of(inode_of(*status)));
}

// Removes what was made there ahead, of this file or of another that had the name.
void CloneAhead::make_room(int to, const std::string& name, const std::string& place) {
    int failed = remove_made(to, name);
    if (failed == ENOENT) {
        return;
    }
    if (failed == EISDIR) {
        remove_tree(to, name, place);
        failed = 0;
    }
    if (failed != 0) {
        throw Error::system("remove", place + " from the snapshot", failed);
    }
    const std::lock_guard lock(replaced_mutex_);
    replaced_.insert(place);
}

void CloneAhead::finish_directory(int from, int to, const std::string& path) {
    if (phase_ == Phase::kHeld) {
        InodeClone::finish_directory(from, to, path);
    } else {
        directories_.add(path);
    }
}

void CloneAhead::settle(int, const std::string&) {
    for (const Shard& shard : shards_) {
        for (const auto& [ino, cloned] : shard.files) {
            for (const Name& name : cloned.names) {
                if (name.kept || replaced_.contains(name.path)) {
                    continue;
                }
                in_directory_of(tree_, name.path, [this, &name](int directory, const std::string& last) {
                    // EISDIR: it has become a directory.
                    if (const int failed = remove_made(directory, last); failed != 0 && failed != ENOENT && failed != EISDIR) {
                        throw Error::system("remove", name.path + " from the snapshot", failed);
                    }
                });
            }
        }
    }
    directories_.drop_unfinished(tree_);
}

}  // namespace nodesnap
