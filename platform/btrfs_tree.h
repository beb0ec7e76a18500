// What the tree of a btrfs subvolume says of its inodes: which were touched since a transaction, what an inode is, its names, and how to
// open it by its number. Bounded memory. `subvolume` is a descriptor of any file or directory of the subvolume, opened for reading, that
// stays open meanwhile. Reading trees needs CAP_SYS_ADMIN. Linux 5.15 or later. Errors are nodesnap::Error. Any thread; an object one
// thread at a time.
//
// Meant for read-only snapshots. In a subvolume that is being written to, what isn't committed yet may be missing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "platform/btrfs_search.h"

namespace nodesnap::btrfs {

// Of the subvolume's own inodes; what lies outside belongs to btrfs itself.
inline constexpr std::uint64_t kFirstIno = 256;              // the subvolume's root
inline constexpr std::uint64_t kLastIno = UINT64_MAX - 255;  // BTRFS_LAST_FREE_OBJECTID

struct InodeItem {
    std::uint64_t ino = 0;
    std::uint64_t generation = 0;  // transaction that made the inode
    std::uint64_t transid = 0;     // transaction that last touched it: contents, extents, attributes, flags, names, entries
    std::uint64_t size = 0;
    std::uint32_t mode = 0;
    std::uint32_t links = 0;  // 0: removed but still open; a snapshot has no such
    bool operator==(const InodeItem&) const = default;
};

// The inodes that a transaction after `after_transid` touched, ascending by number; 0: all. Costs what was written since, not what there
// is: with the otransid of an older snapshot of the same subvolume, these are the inodes that differ from it, and those that are new.
class ChangedInodes {
public:
    ChangedInodes(int subvolume, std::uint64_t after_transid, std::string path_for_messages);
    bool next(InodeItem& inode);  // false at the end

private:
    std::uint64_t after_transid_;
    TreeSearch search_;
};

std::optional<InodeItem> find_inode(int subvolume, std::uint64_t ino);

struct InodeLink {
    std::uint64_t directory = 0;  // inode number
    std::string name;             // arbitrary bytes except '/' and NUL
    auto operator<=>(const InodeLink&) const = default;
};
// All names of an inode, in no particular order, until the visitor returns false; false then. The subvolume's root and an inode that isn't
// there have none.
bool visit_links(int subvolume, std::uint64_t ino, const std::function<bool(const InodeLink&)>& visitor);
// The same, ascending. An inode has up to 65,535 names of up to 255 bytes.
std::vector<InodeLink> links_of(int subvolume, std::uint64_t ino);

// Opens an inode by its number, whatever its names are and whether or not a mount shows it. `any` is any descriptor on a mount of the file
// system, not an O_PATH one; the mount's flags hold. `generation` 0: whatever it is. `flags` as of open(), O_CLOEXEC is added. Returns the
// descriptor or a negative errno: -ESTALE if the subvolume or the inode isn't there, or the number is another inode's now. Needs
// CAP_DAC_READ_SEARCH.
int try_open_inode(int any, std::uint64_t subvolume_id, std::uint64_t ino, std::uint64_t generation, int flags) noexcept;

}  // namespace nodesnap::btrfs
