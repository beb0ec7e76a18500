// The file system that a path or descriptor lies on.
#pragma once

#include <cstdint>
#include <string>

namespace nodesnap {

struct FileSystem {
    std::string type;  // "btrfs", "ext4", "xfs", "tmpfs", "overlay", "nfs", ..., or "0x..." of an unknown magic
    std::uint64_t total_bytes = 0;
    std::uint64_t free_bytes = 0;    // for this user
    std::uint64_t total_inodes = 0;  // 0: made as needed (btrfs)
    std::uint64_t free_inodes = 0;
    std::uint32_t block_bytes = 0;
    bool read_only = false;
};

FileSystem file_system_of(int fd, const std::string& path_for_errors = "");
FileSystem file_system_of(const std::string& path);
// "0a1b2c3d-..." for btrfs, ext4, XFS; otherwise "fsid-" and what statfs() says, which is stable while mounted. `path` must exist.
std::string file_system_uuid_of(const std::string& path);

}  // namespace nodesnap
