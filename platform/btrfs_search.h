// TreeSearch: the items of a subvolume's tree, by BTRFS_IOC_TREE_SEARCH_V2, in bounded memory. Only for platform/btrfs_*.cpp.
//
// A range of keys is one interval of the composite (objectid, type, offset): with several objectids in it, items of all types come back,
// and the caller skips those it doesn't want. Needs CAP_SYS_ADMIN. Errors are nodesnap::Error. One thread at a time.
#pragma once

#include <linux/btrfs_tree.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

namespace nodesnap::btrfs {

inline constexpr std::uint8_t kLastItemType = UINT8_MAX;

struct ItemKey {
    std::uint64_t objectid = 0;
    std::uint8_t type = 0;
    std::uint64_t offset = 0;
    auto operator<=>(const ItemKey&) const = default;
};

struct Item {
    ItemKey key;
    std::span<const std::byte> data;  // valid until the search goes on
};

// "descriptor 7", for messages about what has no path at hand.
std::string descriptor_name(int fd);

// The largest node is 64 KiB, so that this holds any item with its header. The kernel touches all of the buffer in each search: no larger.
inline constexpr std::size_t kSearchBufferBytes = std::size_t{64} << 10;

class TreeSearch {
public:
    // Items from `first` to `last` inclusive, in ascending order. `subvolume` is any file or directory of the subvolume, opened for
    // reading, and must stay open. Leaves that were written before the transaction `min_transid` are skipped by the kernel, with whole
    // subtrees of such; a leaf that was written since returns its old items too. The buffer grows, up to 1 MiB, for an item that doesn't
    // fit. `tree_id`: another tree of the file system than the subvolume's.
    TreeSearch(int subvolume, const ItemKey& first, const ItemKey& last, std::uint64_t min_transid, std::string path,
               std::size_t buffer_bytes = kSearchBufferBytes, std::uint64_t tree_id = 0);

    bool next(Item& item);  // false at the end
    // No item before `key` is wanted any more. Items that aren't in the buffer yet aren't even asked for.
    void skip_to(const ItemKey& key);

    // The structure at `at` of the item, checked to lie within it. Fields are little-endian.
    template <typename Structure>
    Structure read(const Item& item, std::size_t at = 0) const {
        Structure structure;
        std::memcpy(&structure, bytes(item, at, sizeof(Structure)).data(), sizeof(Structure));
        return structure;
    }
    std::span<const std::byte> bytes(const Item& item, std::size_t at, std::size_t length) const;
    [[noreturn]] void malformed(const ItemKey& key, const std::string& what) const;
    const std::string& path() const noexcept { return path_; }

private:
    bool fill();
    int search_once();
    void allocate(std::size_t bytes);

    int subvolume_;
    std::uint64_t tree_id_;  // 0: that of the descriptor
    ItemKey next_;           // nothing before it is wanted
    ItemKey last_;
    std::uint64_t min_transid_;
    std::string path_;
    std::unique_ptr<std::uint64_t[]> buffer_;  // struct btrfs_ioctl_search_args_v2 and capacity_ bytes of headers and items
    std::size_t capacity_ = 0;
    std::size_t position_ = 0;  // in these bytes
    std::uint32_t left_ = 0;    // items in the buffer from there on
    bool done_ = false;
};

}  // namespace nodesnap::btrfs
