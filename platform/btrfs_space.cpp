#include "platform/btrfs_space.h"

#include <btrfsutil.h>
#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "platform/btrfs.h"
#include "platform/btrfs_changes.h"
#include "platform/btrfs_tree.h"
#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/interrupt.h"

namespace nodesnap::btrfs {
namespace {

// Of a file whose pieces lie in the same extents time and again, and of those that are shared, that many are remembered at once.
constexpr std::size_t kRememberedExtents = std::size_t{64} << 10;
constexpr std::size_t kEntriesBuffer = std::size_t{16} << 10;

class HeldSpaceMeasure {
public:
    HeldSpaceMeasure(int snapshot, int subvolume, const std::string& path)
        : snapshot_(snapshot), subvolume_(subvolume), id_(subvolume_id(snapshot)), path_(path) {
        related_ = subvolume_info(snapshot).parent_uuid == subvolume_info(subvolume).uuid;
    }

    HeldSpace measure() {
        if (!related_) {
            add_removed_below(kFirstIno);
            return held_;
        }
        ChangedInodes changes(subvolume_, subvolume_info(snapshot_).otransid, path_);
        InodeItem now;
        while (changes.next(now)) {
            throw_if_interrupted();
            const auto before = find_inode(snapshot_, now.ino);
            // Another inode of that number: the old one is found by the directory that it was removed from.
            if (before && before->generation == now.generation) {
                if (S_ISREG(before->mode)) {
                    add_file(*before, false);
                } else if (S_ISDIR(before->mode)) {
                    add_removed_below(before->ino);
                }
            }
        }
        return held_;
    }

private:
    // Where in a directory of the snapshot the walk is.
    struct Level {
        std::uint64_t directory = 0;
        std::uint64_t next_index = 0;
    };

    // What the subvolume has no more, of the entries of a directory that it has changed; and all below a directory that has gone. A stack
    // of positions: memory follows the depth, not the number of entries.
    void add_removed_below(std::uint64_t directory) {
        std::vector<Level> levels{{directory, 0}};
        while (!levels.empty()) {
            const auto child = next_removed_directory(levels.back());
            if (child) {
                levels.push_back({*child, 0});
            } else {
                levels.pop_back();
            }
        }
    }

    // Adds the removed files before it.
    std::optional<std::uint64_t> next_removed_directory(Level& level) {
        TreeSearch search(snapshot_, {level.directory, BTRFS_DIR_INDEX_KEY, level.next_index},
                          {level.directory, BTRFS_DIR_INDEX_KEY, UINT64_MAX}, 0, path_, kEntriesBuffer);
        Item item;
        while (search.next(item)) {
            throw_if_interrupted();
            level.next_index = item.key.offset + 1;
            const auto entry = search.read<btrfs_dir_item>(item);
            if (entry.location.type != BTRFS_INODE_ITEM_KEY) {
                continue;  // a subvolume's root
            }
            const std::uint64_t ino = le64toh(entry.location.objectid);
            const auto before = find_inode(snapshot_, ino);
            if (!before || is_in_subvolume(*before)) {
                continue;
            }
            if (S_ISDIR(before->mode)) {
                return ino;
            }
            if (S_ISREG(before->mode) && is_first_link(*before, level.directory, item.key.offset)) {
                add_file(*before, true);
            }
        }
        return std::nullopt;
    }

    bool is_in_subvolume(const InodeItem& before) const {
        if (!related_) {
            return false;
        }
        const auto now = find_inode(subvolume_, before.ino);
        return now && now->generation == before.generation;
    }

    // A file with several names is counted at one of them.
    bool is_first_link(const InodeItem& file, std::uint64_t directory, std::uint64_t index) const {
        if (file.links < 2) {
            return true;
        }
        const ItemKey key{file.ino, BTRFS_INODE_REF_KEY, 0};
        TreeSearch search(snapshot_, key, {file.ino, BTRFS_INODE_EXTREF_KEY, UINT64_MAX}, 0, path_, kEntriesBuffer);
        Item item;
        if (!search.next(item)) {
            return true;
        }
        if (item.key.type == BTRFS_INODE_REF_KEY) {
            return item.key.offset == directory && le64toh(search.read<btrfs_inode_ref>(item).index) == index;
        }
        const auto link = search.read<btrfs_inode_extref>(item);
        return le64toh(link.parent_objectid) == directory && le64toh(link.index) == index;
    }

    void add_file(const InodeItem& file, bool removed) {
        const int fd = try_open_inode(snapshot_, id_, file.ino, file.generation, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) {
            throw Error::system("open a file of the snapshot", path_, -fd);
        }
        const FileDescriptor opened(fd);
        counted_.clear();
        FileChanges changes(subvolume_, snapshot_, file.ino, removed ? 0 : file.size, file.size, path_);
        ChangedStretch stretch;
        while (changes.next(stretch)) {
            if (stretch.kind != ChangedStretch::Kind::kHole) {
                add_stretch(opened.get(), file.ino, stretch);
            }
        }
    }

    // What of it isn't shared, by the file's extent map, with the sizes that the tree has.
    void add_stretch(int file, std::uint64_t ino, const ChangedStretch& stretch) {
        ExtentReader map(file, path_, stretch.offset, stretch.end());
        FileExtents extents(snapshot_, ino, stretch.offset, path_);
        Extent mapped;
        FileExtent extent;
        bool more = extents.next(extent);
        while (more && map.next(mapped) && mapped.logical < stretch.end()) {
            throw_if_interrupted();
            const std::uint64_t end = std::min(mapped.end(), stretch.end());
            for (; more && extent.offset < end; more = extents.next(extent)) {
                if (extent.end() > mapped.logical && extent.kind != FileExtent::Kind::kInline) {
                    (mapped.flags & Extent::kShared) == 0 ? add_alone(extent) : add_shared(extent, ino);
                }
                if (extent.end() > end) {
                    break;
                }
            }
        }
    }

    void add_alone(const FileExtent& extent) {
        if (counted_.size() == kRememberedExtents) {
            counted_.clear();
        }
        if (counted_.insert(extent.disk_address).second) {
            held_.alone_bytes += extent.disk_length;
        }
    }

    // Counted again once too many are remembered: it is an upper bound.
    void add_shared(const FileExtent& extent, std::uint64_t ino) {
        if (shared_.size() == kRememberedExtents) {
            shared_.clear();
            held_.shares_within = true;  // it can't be told any more that it doesn't
        }
        const Reference reference{ino, extent.offset - extent.extent_offset};
        const auto [known, added] = shared_.emplace(extent.disk_address, reference);
        held_.shared_bytes += added ? extent.disk_length : 0;
        held_.shares_within |= known->second != reference;
    }

    int snapshot_;
    int subvolume_;
    std::uint64_t id_;
    const std::string& path_;
    bool related_ = false;  // else another subvolume has taken the place of the one that the snapshot is of
    HeldSpace held_;
    std::unordered_set<std::uint64_t> counted_;                 // of the file at hand
    using Reference = std::pair<std::uint64_t, std::uint64_t>;  // the file, and where in it the extent would begin
    std::unordered_map<std::uint64_t, Reference> shared_;
};

bool is_being_cleaned(int fd, std::uint64_t subvolume_id, const std::string& path) {
    std::uint64_t* raw = nullptr;
    std::size_t count = 0;
    if (btrfs_util_deleted_subvolumes_fd(fd, &raw, &count) != BTRFS_UTIL_OK) {
        throw Error::system("ask for the space of the removed snapshot", path, errno);
    }
    const std::unique_ptr<std::uint64_t, decltype(&std::free)> ids(raw, &std::free);
    return std::find(raw, raw + count, subvolume_id) != raw + count;
}

}  // namespace

HeldSpace held_space(int snapshot, int subvolume, const std::string& path_for_messages) {
    return HeldSpaceMeasure(snapshot, subvolume, path_for_messages).measure();
}

void wait_until_cleaned(int fd, std::uint64_t subvolume_id, const std::string& path_for_messages) {
    // There is a call that waits (BTRFS_IOC_SUBVOL_SYNC_WAIT), since Linux 6.13 only, and no signal ends it.
    constexpr std::chrono::milliseconds kBetween(50);
    while (is_being_cleaned(fd, subvolume_id, path_for_messages)) {
        interrupt::throw_if_interrupted();
        std::this_thread::sleep_for(kBetween);
    }
    // What the cleaner gave back can be allocated again once the transaction that did it is committed.
    commit(fd, path_for_messages);
}

}  // namespace nodesnap::btrfs
