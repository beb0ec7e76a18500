#include "platform/btrfs_tree.h"

#include <endian.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "platform/fault.h"

namespace nodesnap::btrfs {
namespace {

static_assert(kFirstIno == BTRFS_FIRST_FREE_OBJECTID && kLastIno == BTRFS_LAST_FREE_OBJECTID);

InodeItem parse_inode(const TreeSearch& search, const Item& item) {
    const auto from = search.read<btrfs_inode_item>(item);
    InodeItem inode;
    inode.ino = item.key.objectid;
    inode.generation = le64toh(from.generation);
    inode.transid = le64toh(from.transid);
    inode.size = le64toh(from.size);
    inode.mode = le32toh(from.mode);
    inode.links = le32toh(from.nlink);
    return inode;
}

// INODE_REF holds the names in one directory; what doesn't fit a leaf is in INODE_EXTREF items, one for each hash of directory and name.
// Both hold several names, one after the other. Returns where the next one begins.
std::size_t parse_link(const TreeSearch& search, const Item& item, std::size_t at, InodeLink& link) {
    std::size_t length = 0;
    if (item.key.type == BTRFS_INODE_REF_KEY) {
        const auto from = search.read<btrfs_inode_ref>(item, at);
        link.directory = item.key.offset;
        length = le16toh(from.name_len);
        at += sizeof(from);
    } else {
        const auto from = search.read<btrfs_inode_extref>(item, at);
        link.directory = le64toh(from.parent_objectid);
        length = le16toh(from.name_len);
        at += sizeof(from);
    }
    const auto name = search.bytes(item, at, length);
    link.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
    return at + length;
}

// What the kernel calls a FILEID_BTRFS_WITHOUT_PARENT.
constexpr int kHandleType = 0x4d;
struct [[gnu::packed]] InodeHandle {
    std::uint64_t ino;
    std::uint64_t subvolume_id;
    std::uint32_t generation;  // its lower half
};
static_assert(sizeof(InodeHandle) == 20);

int open_by_handle(int any, const InodeHandle& inode, int flags) noexcept {
    alignas(file_handle) std::byte storage[sizeof(file_handle) + sizeof(inode)];
    auto* const handle = new (storage) file_handle;
    handle->handle_bytes = sizeof(inode);
    handle->handle_type = kHandleType;
    std::memcpy(handle->f_handle, &inode, sizeof(inode));
    int fd = -1;
    do {
        fd = ::open_by_handle_at(any, handle, flags | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

std::optional<std::uint64_t> generation_of(int any, std::uint64_t subvolume_id, std::uint64_t ino) noexcept {
    try {
        const ItemKey key{ino, BTRFS_INODE_ITEM_KEY, 0};
        TreeSearch search(any, key, key, 0, descriptor_name(any), kSearchBufferBytes, subvolume_id);
        Item item;
        return search.next(item) ? std::optional(parse_inode(search, item).generation) : std::nullopt;
    } catch (const std::exception&) {
        return std::nullopt;  // the caller has an error to tell
    }
}

}  // namespace

ChangedInodes::ChangedInodes(int subvolume, std::uint64_t after_transid, std::string path_for_messages)
    : after_transid_(after_transid),
      search_(subvolume, {kFirstIno, BTRFS_INODE_ITEM_KEY, 0}, {kLastIno, BTRFS_INODE_ITEM_KEY, UINT64_MAX},
              std::max(after_transid, after_transid + 1), std::move(path_for_messages)) {}

bool ChangedInodes::next(InodeItem& inode) {
    Item item;
    while (search_.next(item)) {
        if (item.key.type < BTRFS_INODE_ITEM_KEY) {
            continue;
        }
        // An inode's item is its first one: however many extents or entries follow, they needn't be read.
        search_.skip_to({item.key.objectid + 1, BTRFS_INODE_ITEM_KEY, 0});
        if (item.key.type == BTRFS_INODE_ITEM_KEY) {
            inode = parse_inode(search_, item);
            if (inode.transid > after_transid_) {  // not only a neighbour in its leaf
                return true;
            }
        }
    }
    return false;
}

std::optional<InodeItem> find_inode(int subvolume, std::uint64_t ino) {
    const ItemKey key{ino, BTRFS_INODE_ITEM_KEY, 0};
    TreeSearch search(subvolume, key, key, 0, descriptor_name(subvolume));
    Item item;
    if (!search.next(item)) {
        return std::nullopt;
    }
    return parse_inode(search, item);
}

bool visit_links(int subvolume, std::uint64_t ino, const std::function<bool(const InodeLink&)>& visitor) {
    static_assert(BTRFS_INODE_EXTREF_KEY == BTRFS_INODE_REF_KEY + 1);
    TreeSearch search(subvolume, {ino, BTRFS_INODE_REF_KEY, 0}, {ino, BTRFS_INODE_EXTREF_KEY, UINT64_MAX}, 0, descriptor_name(subvolume));
    Item item;
    InodeLink link;
    while (search.next(item)) {
        for (std::size_t at = 0; at < item.data.size();) {
            at = parse_link(search, item, at, link);
            // The root is noted as ".." in itself.
            if (link.directory != ino && !visitor(link)) {
                return false;
            }
        }
    }
    return true;
}

std::vector<InodeLink> links_of(int subvolume, std::uint64_t ino) {
    std::vector<InodeLink> links;
    visit_links(subvolume, ino, [&links](const InodeLink& link) {
        links.push_back(link);
        return true;
    });
    std::sort(links.begin(), links.end());
    return links;
}

int try_open_inode(int any, std::uint64_t subvolume_id, std::uint64_t ino, std::uint64_t generation, int flags) noexcept {
    if (const int error = fault::inject("open_inode")) {
        return -error;
    }
    const int fd = open_by_handle(any, {ino, subvolume_id, static_cast<std::uint32_t>(generation)}, flags);
    if (fd != -ESTALE || generation != 0) {
        return fd;
    }
    const auto present = generation_of(any, subvolume_id, ino);  // older kernels (6.1) want to be told it
    return present ? open_by_handle(any, {ino, subvolume_id, static_cast<std::uint32_t>(*present)}, flags) : fd;
}

}  // namespace nodesnap::btrfs
