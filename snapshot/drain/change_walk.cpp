#include "snapshot/drain/change_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <utility>
#include <vector>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/drain/spilled_stack.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::size_t kListsMemory = 4U << 20;
constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME;

bool is_directory(const btrfs::InodeItem& inode) {
    return S_ISDIR(inode.mode);
}

// The two parts of a key in the lists. Not a stored key: a directory's own entry has no name.
std::uint64_t directory_of(std::string_view list_key) {
    return key::parse(std::string(list_key.substr(0, 8)) + '\0').ino;
}
std::string name_in(std::string_view list_key) {
    return std::string(list_key.substr(key::dirent(1).size()));
}

}  // namespace

ChangeWalk::ChangeWalk(int source, bool is_live, const Repository& repository, const DrainParent& parent, const ExcludeRules& excludes,
                       Catalog& catalog, SourceSink& sink, const std::string& scratch_directory)
    : source_(source),
      is_live_(is_live),
      subvolume_(btrfs::subvolume_id(source)),
      root_ino_(stat_fd(source).stx_ino),
      parent_source_(parent.forked_at == 0 ? -1 : parent.source),
      since_(parent.forked_at == 0 ? parent.backup.proof.otransid : parent.forked_at),
      repository_(repository),
      parent_(parent.backup),
      excludes_(excludes),
      catalog_(catalog),
      sink_(sink),
      scratch_directory_(scratch_directory),
      lists_(scratch_directory, kListsMemory) {}

void ChangeWalk::run() {
    if (parent_.excludes != excludes_.patterns()) {
        if (const auto root = find(root_ino_, {})) {
            list_all_below(*root);
        }
    }
    btrfs::ChangedInodes touched(source_, since_, "the snapshot");
    for (btrfs::InodeItem inode; !sink_.stopped() && touched.next(inode);) {
        interrupt::throw_if_interrupted();
        take_touched(inode);
    }
    if (parent_source_ >= 0) {
        take_touched_in_parent();
    }
    compare_lists();
    flush();
}

// Where the two have parted, what the parent backup has of this was changed there and not here.
void ChangeWalk::take_touched_in_parent() {
    btrfs::ChangedInodes touched(parent_source_, since_, "the snapshot of the last backup");
    for (btrfs::InodeItem theirs; !sink_.stopped() && touched.next(theirs);) {
        interrupt::throw_if_interrupted();
        const auto inode = btrfs::find_inode(source_, theirs.ino);
        if (!inode) {
            drop(theirs.ino);
        } else if (inode->transid <= since_) {  // others have been taken
            take_touched(*inode);
        }
    }
}

void ChangeWalk::take_touched(const btrfs::InodeItem& inode) {
    if (inode.ino == root_ino_) {
        take(inode, Name{root_ino_, {}, ""}, !list_for_comparison(inode, {}));
        return;
    }
    const auto name = name_of(inode);
    if (!name) {
        drop(inode.ino);
        return;
    }
    bool incomplete = false;
    if (!is_directory(inode)) {
        drop_former_directory(inode.ino);
    } else {
        const DirectoryPlace place(name->place, name->name);
        // Patterns speak of paths: below a directory whose path has changed, they may fit what they didn't, and the other way round.
        if (!excludes_.empty() && moved(inode.ino, *name)) {
            list_all_below(inode);
        } else {
            incomplete = !list_for_comparison(inode, place);
        }
    }
    take(inode, *name, incomplete);
}

// Hands it to the workers, which open it by its number.
void ChangeWalk::take(const btrfs::InodeItem& inode, const Name& name, bool incomplete) {
    if (batch_ && (batch_->directory->ino != name.directory || batch_->entries.size() == kBatchEntries)) {
        flush();
    }
    if (!batch_) {
        batch_ = std::make_unique<Batch>();
        batch_->directory = std::make_shared<SourceDirectory>();
        batch_->directory->ino = name.directory;
        batch_->directory->place = name.place;
    }
    batch_->entries.push_back({name.name, inode.ino, static_cast<std::uint8_t>(IFTODT(inode.mode)), incomplete, inode.generation});
}

void ChangeWalk::flush() {
    if (batch_) {
        sink_.take(std::move(batch_));
    }
}

// ---- What is in the backup

bool ChangeWalk::excluded(const DirectoryPlace& directory, const std::string& name, bool is_directory) const {
    return !excludes_.empty() && excludes_.matches(directory.whole_path_of(name), is_directory);
}

ChangeWalk::Reached ChangeWalk::reach(std::uint64_t directory) {
    if (reached_.size() >= kRememberedPlaces) {
        reached_.clear();
    }
    reached_.try_emplace(root_ino_, DirectoryPlace());
    std::vector<std::pair<std::uint64_t, btrfs::InodeLink>> way;  // up, until something is known
    for (std::uint64_t ino = directory; !reached_.contains(ino);) {
        btrfs::InodeLink above;
        const bool named = !btrfs::visit_links(source_, ino, [&](const btrfs::InodeLink& link) {
            above = link;
            return false;
        });
        if (!named) {  // the subvolume's root: the node directory isn't above it
            reached_.emplace(ino, std::nullopt);
            break;
        }
        way.emplace_back(ino, above);
        ino = above.directory;
    }
    for (auto step = way.rbegin(); step != way.rend(); ++step) {
        const auto& [ino, link] = *step;
        const Reached above = reached_.at(link.directory);
        const bool in = above && !excluded(*above, link.name, true);
        reached_.emplace(ino, in ? Reached(DirectoryPlace(*above, link.name)) : std::nullopt);
    }
    return reached_.at(directory);
}

// One of its names in the backup.
std::optional<ChangeWalk::Name> ChangeWalk::name_of(const btrfs::InodeItem& inode) {
    std::optional<Name> found;
    btrfs::visit_links(source_, inode.ino, [&](const btrfs::InodeLink& link) {
        const Reached place = reach(link.directory);
        if (place && !excluded(*place, link.name, is_directory(inode))) {
            found = Name{link.directory, *place, link.name};
        }
        return !found;
    });
    return found;
}

bool ChangeWalk::in_backup(std::uint64_t ino) {
    const auto inode = btrfs::find_inode(source_, ino);
    return inode && (ino == root_ino_ || name_of(*inode));
}

bool ChangeWalk::held(std::uint64_t ino) const {
    return tree_find(repository_.nodes(), parent_.tree, key::inode(ino)).has_value();
}

bool ChangeWalk::moved(std::uint64_t ino, const Name& name) const {
    const auto entry = tree_find(repository_.nodes(), parent_.tree, key::dirent(name.directory, name.name));
    return !entry || decode_dirent(*entry).ino != ino;
}

// None only where it may have gone since it was listed.
std::optional<btrfs::InodeItem> ChangeWalk::find(std::uint64_t ino, const DirectoryPlace& place) const {
    auto inode = btrfs::find_inode(source_, ino);
    if (inode || is_live_) {
        return inode;
    }
    throw Error::failed("inode " + std::to_string(ino) + " of the snapshot is not in its tree: " + place.path(),
                        "check the file system with btrfs scrub and btrfs check");
}

// ---- Directories

// False if it couldn't be read to its end.
bool ChangeWalk::list(const btrfs::InodeItem& directory, const DirectoryPlace& place, const TakeEntry& take_entry) {
    const std::string path = place.path().empty() ? "." : place.path();
    try {
        const int fd = btrfs::try_open_inode(source_, subvolume_, directory.ino, directory.generation, kOpenDirectory);
        if (fd < 0) {
            throw Error::system("open", path, -fd);
        }
        DirectoryStream stream(FileDescriptor(fd), path);
        DirectoryEntry entry;
        while (stream.next(entry)) {
            if (!excluded(place, entry.name, entry.d_type == DT_DIR)) {
                take_entry(entry.name, Dirent{entry.ino, file_type_of(entry.d_type)});
            }
        }
        return true;
    } catch (const Error& error) {
        if (error.error_number() == 0) {
            throw;
        }
        sink_.unreadable(path, error);
        return false;
    }
}

bool ChangeWalk::list_for_comparison(const btrfs::InodeItem& directory, const DirectoryPlace& place, const TakeEntry& take_entry) {
    lists_.add(key::dirent(directory.ino), "");
    return list(directory, place, [&](const std::string& name, const Dirent& dirent) {
        const Bytes value = encode(dirent);
        lists_.add(key::dirent(directory.ino, name), {reinterpret_cast<const char*>(value.data()), value.size()});
        if (take_entry) {
            take_entry(name, dirent);
        }
    });
}

void ChangeWalk::list_all_below(const btrfs::InodeItem& directory) {
    SpilledStack<btrfs::InodeItem> waiting(scratch_directory_);
    waiting.push(directory);
    while (!waiting.empty() && !sink_.stopped()) {
        interrupt::throw_if_interrupted();
        const btrfs::InodeItem next = waiting.pop();
        const DirectoryPlace place = reach(next.ino).value_or(DirectoryPlace());
        list_for_comparison(next, place, [&](const std::string& name, const Dirent& dirent) {
            if (dirent.type == FileType::kDirectory) {
                if (const auto below = find(dirent.ino, DirectoryPlace(place, name))) {
                    waiting.push(*below);
                }
            }
        });
    }
}

void ChangeWalk::compare_lists() {
    list_more_ = lists_.next(list_key_, list_value_);
    while (list_more_ && !sink_.stopped()) {
        interrupt::throw_if_interrupted();
        compare_list(directory_of(list_key_));
    }
}

// Tells what was added to a directory, and what is gone from it, since the parent backup.
void ChangeWalk::compare_list(std::uint64_t directory) {
    const Reached place = reach(directory);
    DirectoryLister before(repository_, parent_, directory);
    NamedEntry old;
    bool more_old = held(directory) && before.next(old);
    const auto drop_old = [&] {
        catalog_.drop_dirent(directory, old.name);
        if (!in_backup(old.ino)) {
            drop(old.ino);
        }
        more_old = before.next(old);
    };
    std::string last;
    for (; list_more_; list_more_ = lists_.next(list_key_, list_value_)) {
        if (directory_of(list_key_) != directory) {
            break;
        }
        const std::string name = name_in(list_key_);
        if (name == last) {
            continue;  // the directory itself, or listed twice
        }
        last = name;
        const Dirent dirent = decode_dirent(std::as_bytes(std::span(list_value_.data(), list_value_.size())));
        while (more_old && old.name < name) {
            drop_old();
        }
        if (more_old && old.name == name) {
            if (old.ino == dirent.ino && old.type == dirent.type) {
                more_old = before.next(old);
                continue;
            }
            drop_old();
        }
        sink_.found(directory, name, dirent);
        take_new(dirent.ino, Name{directory, place.value_or(DirectoryPlace()), name});
    }
    while (more_old) {
        drop_old();
    }
}

// What has come to be in the backup without being touched: from outside the node directory, or from an excluded name.
void ChangeWalk::take_new(std::uint64_t ino, const Name& name) {
    const auto is_new = [this](const btrfs::InodeItem& inode) { return inode.transid <= since_ && !held(inode.ino); };
    const DirectoryPlace place(name.place, name.name);
    const auto inode = find(ino, place);
    if (!inode || !is_new(*inode)) {
        return;
    }
    SpilledStack<btrfs::InodeItem> waiting(scratch_directory_);
    const auto take_one = [&](const btrfs::InodeItem& one, const Name& as) {
        if (is_directory(one)) {
            waiting.push(one);
        }
        take(one, as);
    };
    take_one(*inode, name);
    while (!waiting.empty() && !sink_.stopped()) {
        interrupt::throw_if_interrupted();
        const btrfs::InodeItem next = waiting.pop();
        const DirectoryPlace at = reach(next.ino).value_or(DirectoryPlace());
        list(next, at, [&](const std::string& below, const Dirent& dirent) {
            sink_.found(next.ino, below, dirent);
            const Name as{next.ino, at, below};
            const auto found = find(dirent.ino, DirectoryPlace(as.place, below));
            if (found && is_new(*found)) {
                take_one(*found, as);
            }
        });
    }
}

// Numbers are given anew, after a mount or in a clone: what is no directory now may have been one, whose entries would stay.
void ChangeWalk::drop_former_directory(std::uint64_t ino) {
    const auto value = tree_find(repository_.nodes(), parent_.tree, key::inode(ino));
    if (value && decode_inode(*value).type == FileType::kDirectory) {
        drop(ino);
    }
}

// What the parent backup holds of it, and of what is below it and has no other name in this backup.
void ChangeWalk::drop(std::uint64_t ino) {
    SpilledStack<std::uint64_t> waiting(scratch_directory_);
    waiting.push(ino);
    while (!waiting.empty()) {
        const std::uint64_t next = waiting.pop();
        const auto value = tree_find(repository_.nodes(), parent_.tree, key::inode(next));
        if (!value) {
            continue;
        }
        catalog_.drop_inode(next);
        if (decode_inode(*value).type != FileType::kDirectory) {
            continue;
        }
        DirectoryLister below(repository_, parent_, next);
        for (NamedEntry entry; below.next(entry);) {
            if (!in_backup(entry.ino)) {
                waiting.push(entry.ino);
            }
        }
    }
}

}  // namespace nodesnap
