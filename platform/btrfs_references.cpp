#include "platform/btrfs_references.h"

#include <endian.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "platform/btrfs_search.h"
#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap::btrfs {
namespace {

constexpr std::size_t kWords = (std::size_t{64} << 10) / sizeof(std::uint64_t);
constexpr std::size_t kHeaderWords = sizeof(btrfs_data_container) / sizeof(std::uint64_t);
constexpr std::size_t kReferenceWords = 3;  // inode, offset, subvolume

}  // namespace

std::vector<ExtentReference> references_to(int fd, const FileExtent& extent, std::uint64_t at, const std::string& path_for_messages) {
    const bool encoded = extent.compression != 0 || extent.encryption != 0 || extent.other_encoding != 0;
    std::vector<std::uint64_t> buffer(kWords);
    btrfs_ioctl_logical_ino_args arguments{};
    arguments.logical = extent.disk_address + (encoded ? 0 : at);
    arguments.size = buffer.size() * sizeof(std::uint64_t);
    arguments.inodes = reinterpret_cast<std::uintptr_t>(buffer.data());
    int error = fault::inject("logical_ino");
    if (error == 0 && ::ioctl(fd, BTRFS_IOC_LOGICAL_INO_V2, &arguments) != 0) {
        error = errno;
    }
    if (error == ENOENT) {
        return {};
    }
    if (error != 0) {
        throw Error::system("look for the files that share an extent with", path_for_messages, error);
    }
    const auto& found = *reinterpret_cast<const btrfs_data_container*>(buffer.data());
    const std::size_t words = std::min<std::size_t>(found.elem_cnt, kWords - kHeaderWords);
    std::vector<ExtentReference> references;
    references.reserve(words / kReferenceWords);
    for (std::size_t word = 0; word + kReferenceWords <= words; word += kReferenceWords) {
        const std::uint64_t* const one = buffer.data() + kHeaderWords + word;
        references.push_back({one[2], one[0], one[1]});
    }
    return references;
}

std::optional<std::uint64_t> placed_by(int fd, std::uint64_t disk_address, std::uint64_t disk_length,
                                       const std::string& path_for_messages) {
    constexpr std::size_t kSmallBuffer = std::size_t{4} << 10;
    const ItemKey key{disk_address, BTRFS_EXTENT_ITEM_KEY, disk_length};
    TreeSearch search(fd, key, key, 0, path_for_messages, kSmallBuffer, BTRFS_EXTENT_TREE_OBJECTID);
    Item item;
    if (!search.next(item)) {
        return std::nullopt;
    }
    return le64toh(search.read<btrfs_extent_item>(item).generation);
}

std::uint64_t current_transaction(int fd) {
    btrfs_ioctl_fs_info_args arguments{};
    arguments.flags = BTRFS_FS_INFO_FLAG_GENERATION;
    if (::ioctl(fd, BTRFS_IOC_FS_INFO, &arguments) != 0) {
        throw Error::system("ask for the current transaction", descriptor_name(fd), errno);
    }
    return (arguments.flags & BTRFS_FS_INFO_FLAG_GENERATION) != 0 ? arguments.generation : 0;
}

}  // namespace nodesnap::btrfs
