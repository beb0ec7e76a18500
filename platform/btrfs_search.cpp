#include "platform/btrfs_search.h"

#include <linux/btrfs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap::btrfs {
namespace {

constexpr std::size_t kLargestBufferBytes = std::size_t{1} << 20;

// The key after this one; false if it is the last of all.
bool step(ItemKey& key) {
    if (key.offset != UINT64_MAX) {
        ++key.offset;
    } else if (key.type != kLastItemType) {
        key = {key.objectid, static_cast<std::uint8_t>(key.type + 1), 0};
    } else if (key.objectid != UINT64_MAX) {
        key = {key.objectid + 1, 0, 0};
    } else {
        return false;
    }
    return true;
}

}  // namespace

std::string descriptor_name(int fd) {
    return "descriptor " + std::to_string(fd);
}

TreeSearch::TreeSearch(int subvolume, const ItemKey& first, const ItemKey& last, std::uint64_t min_transid, std::string path,
                       std::size_t buffer_bytes, std::uint64_t tree_id)
    : subvolume_(subvolume), tree_id_(tree_id), next_(first), last_(last), min_transid_(min_transid), path_(std::move(path)) {
    allocate(buffer_bytes);
}

void TreeSearch::allocate(std::size_t bytes) {
    static_assert(sizeof(btrfs_ioctl_search_args_v2) % sizeof(std::uint64_t) == 0);
    capacity_ = bytes / sizeof(std::uint64_t) * sizeof(std::uint64_t);
    buffer_ = std::make_unique_for_overwrite<std::uint64_t[]>((sizeof(btrfs_ioctl_search_args_v2) + capacity_) / sizeof(std::uint64_t));
}

// Returns an errno, or 0 with left_ set.
int TreeSearch::search_once() {
    auto* const arguments = reinterpret_cast<btrfs_ioctl_search_args_v2*>(buffer_.get());
    std::memset(arguments, 0, sizeof(*arguments));
    btrfs_ioctl_search_key& key = arguments->key;
    key.tree_id = tree_id_;
    key.min_objectid = next_.objectid;
    key.min_type = next_.type;
    key.min_offset = next_.offset;
    key.max_objectid = last_.objectid;
    key.max_type = last_.type;
    key.max_offset = last_.offset;
    key.min_transid = min_transid_;
    key.max_transid = UINT64_MAX;
    key.nr_items = UINT32_MAX;
    arguments->buf_size = capacity_;
    if (const int error = fault::inject("tree_search")) {
        return error;
    }
    if (::ioctl(subvolume_, BTRFS_IOC_TREE_SEARCH_V2, arguments) != 0) {
        return errno;
    }
    left_ = key.nr_items;
    return 0;
}

bool TreeSearch::fill() {
    position_ = 0;
    left_ = 0;
    if (done_ || next_ > last_) {
        return false;
    }
    int error = search_once();
    while (error == EINTR || error == EOVERFLOW) {
        if (error == EOVERFLOW) {
            const std::uint64_t needed = reinterpret_cast<const btrfs_ioctl_search_args_v2*>(buffer_.get())->buf_size;
            if (needed > kLargestBufferBytes || capacity_ >= kLargestBufferBytes) {
                break;
            }
            allocate(std::min(std::max(static_cast<std::size_t>(needed), 2 * capacity_), kLargestBufferBytes));
        }
        error = search_once();
    }
    if (error != 0) {
        throw Error::system("search the btrfs tree of", path_, error);
    }
    // Fewer items than fit don't mean the end: only none does.
    done_ = left_ == 0;
    return !done_;
}

bool TreeSearch::next(Item& item) {
    while (left_ > 0 || fill()) {
        const std::byte* const found = reinterpret_cast<const std::byte*>(buffer_.get()) + sizeof(btrfs_ioctl_search_args_v2);
        btrfs_ioctl_search_header header{};
        if (capacity_ - position_ < sizeof(header)) {
            malformed(next_, "the kernel returned more than fits");
        }
        std::memcpy(&header, found + position_, sizeof(header));
        position_ += sizeof(header);
        --left_;
        const ItemKey key{header.objectid, static_cast<std::uint8_t>(header.type), header.offset};
        if (header.len > capacity_ - position_) {
            malformed(key, "the kernel returned more than fits");
        }
        const std::span<const std::byte> data(found + position_, header.len);
        position_ += header.len;
        if (key < next_) {
            continue;  // skipped by the caller
        }
        next_ = key;
        done_ = done_ || !step(next_);
        item = {key, data};
        return true;
    }
    return false;
}

void TreeSearch::skip_to(const ItemKey& key) {
    next_ = std::max(next_, key);
}

std::span<const std::byte> TreeSearch::bytes(const Item& item, std::size_t at, std::size_t length) const {
    if (at > item.data.size() || length > item.data.size() - at) {
        malformed(item.key, "an item of " + std::to_string(item.data.size()) + " bytes is too short");
    }
    return item.data.subspan(at, length);
}

void TreeSearch::malformed(const ItemKey& key, const std::string& what) const {
    throw Error::failed("the btrfs tree of " + path_ + " cannot be understood at (" + std::to_string(key.objectid) + " " +
                            std::to_string(key.type) + " " + std::to_string(key.offset) + "): " + what,
                        "check the file system (btrfs check --readonly)");
}

}  // namespace nodesnap::btrfs
