// The mounts that this process sees, from /proc/self/mountinfo.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nodesnap {

struct Mount {
    std::uint64_t id = 0;
    std::uint64_t parent_id = 0;
    std::uint64_t device = 0;   // as makedev(); for btrfs not what stat() gives for its files
    std::string root;           // the part of the file system that is mounted: "/", "/subvolume"
    std::string mount_point;    // absolute, escapes undone
    std::string type;           // "btrfs", "ext4"
    std::string source;         // "/dev/sda1"
    std::string options;        // of the mount
    std::string super_options;  // of the file system
    bool read_only = false;     // of the mount or of the file system
    std::uint64_t shared = 0;   // peer group that mounts below it are propagated in; 0: none
    std::uint64_t master = 0;   // peer group that such come from; 0: none
};

std::vector<Mount> parse_mountinfo(std::string_view text);
std::vector<Mount> list_mounts();
// The mount that an existing path lies on (symlinks followed). Throws if the path doesn't exist.
Mount mount_of(const std::string& path);
bool is_mount_root(const std::string& directory);
// Mounts strictly below a directory, ascending by mount point.
std::vector<Mount> mounts_below(const std::string& directory);

}  // namespace nodesnap
