// Who refers to a place in an extent of a btrfs. As platform/btrfs_tree.h: CAP_SYS_ADMIN, Linux 5.15 or later, nodesnap::Error. Any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/btrfs_changes.h"

namespace nodesnap::btrfs {

struct ExtentReference {
    std::uint64_t subvolume = 0;  // id
    std::uint64_t ino = 0;
    std::uint64_t offset = 0;  // in the file: of that place; of an encoded extent, of the piece that shows some of it
    auto operator<=>(const ExtentReference&) const = default;
};

// All that refer to the byte of the extent at `at`, decoded, from its beginning, up to a few thousand of them, in no particular order. Of
// an encoded extent, all that refer to any of it. As of the last commit, or later. Costs a walk over the back references: the more there
// are, the longer it takes. `fd` is anything on the file system, opened for reading.
std::vector<ExtentReference> references_to(int fd, const FileExtent& extent, std::uint64_t at, const std::string& path_for_messages);

// The transaction that put an extent where it is: wrote it, or moved it there. nullopt if there is none of that length (yet, or any more).
// That it is there since a transaction that ended before two of its pieces were read, in whatever trees, proves them to be of one extent.
std::optional<std::uint64_t> placed_by(int fd, std::uint64_t disk_address, std::uint64_t disk_length, const std::string& path_for_messages);

// The number of the transaction that has begun last: whatever is done later than this call has that number, or a higher one.
std::uint64_t current_transaction(int fd);

}  // namespace nodesnap::btrfs
