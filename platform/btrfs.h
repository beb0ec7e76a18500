// Btrfs: subvolumes and snapshots, through libbtrfsutil and, where that has no call, the ioctls. Creating and deleting need CAP_SYS_ADMIN
// (or the mount option user_subvol_rm_allowed); open_top_level() and the paths of subvolumes always do. Linux 5.2 or later. All descriptors
// are of directories on btrfs, opened for reading. Errors are nodesnap::Error. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"

namespace nodesnap::btrfs {

using RawUuid = std::array<std::uint8_t, 16>;
inline constexpr std::uint64_t kTopLevelId = 5;

struct SubvolumeInfo {
    std::uint64_t id = 0;
    std::uint64_t parent_id = 0;  // 0 for the top level
    RawUuid uuid{};
    RawUuid parent_uuid{};  // of what it is a snapshot of; zero if of nothing
    std::uint64_t generation = 0;
    std::uint64_t otransid = 0;   // transaction that created it
    std::uint64_t ctransid = 0;   // transaction that last changed it
    std::int64_t created_ns = 0;  // UTC
    bool read_only = false;
};

bool is_btrfs(int fd);
bool is_btrfs(const std::string& path);
std::string fs_uuid(int fd);         // "0a1b2c3d-..."
bool is_subvolume(int fd);           // the directory is the root of one; false on other file systems
std::uint64_t subvolume_id(int fd);  // of the subvolume that holds it
SubvolumeInfo subvolume_info(int fd);
// Of any subvolume of the file system, by its id; `fd` is any directory of it.
SubvolumeInfo subvolume_info(int fd, std::uint64_t id);

// Where a directory lies in its subvolume.
struct Place {
    std::string subvolume_root;  // absolute path; empty when only a folder of the subvolume is mounted here
    std::string inside;          // from the subvolume's root; empty if the directory is that root
};
Place place_of(const std::string& directory);
// Absolute path of the root of the subvolume that holds `path`. Error::refused if it isn't visible (only a folder of it is mounted).
std::string subvolume_root_of(const std::string& path);

// `source` is the root of a subvolume. One call, O(1).
void create_snapshot(int source, int parent_directory, const std::string& name, bool read_only);
void create_subvolume(int parent_directory, const std::string& name);
// Gone at once, but only a commit() keeps a power cut from bringing it back.
void delete_subvolume(int parent_directory, const std::string& name);
// Makes what was done to names and subvolumes of the file system until now durable. Unlike syncfs() it writes no file data. Costs nothing
// if nothing was done. `path` is for messages.
void commit(int fd, const std::string& path);
void set_read_only(int subvolume, bool read_only);

// Subvolumes below a directory (at any depth, those in other subvolumes too), relative to it, ascending. Mounts play no part.
std::vector<std::string> nested_subvolumes_below(const std::string& directory);

// The root of the file system that `path` lies on (subvolid 5), through a mount that is attached nowhere: nobody else sees it, and it goes
// away with the descriptor, which is an O_PATH one: open "." relative to it for ioctls. Error::refused where the kernel doesn't allow that.
FileDescriptor open_top_level(const std::string& path);
// The path of the subvolume with this id from the top level, without leading '/'; "" for the top level. `fd` is any directory of the file
// system.
std::string subvolume_path(int fd, std::uint64_t id);
// The id of the subvolume with this UUID, wherever it lies; nullopt if there is none. `fd` is any directory of the file system. Needs
// CAP_SYS_ADMIN.
std::optional<std::uint64_t> find_subvolume(int fd, const RawUuid& uuid);
// The last transaction up to which two subvolumes have the same history: of one from which both were cloned, or that was cloned from the
// other, directly or by way of others that are still there. What was changed in either since has a later number. For a read-only snapshot
// and what came from it that is at least the snapshot's otransid. 0 if there is no such thing, or it can't be told.
std::uint64_t common_transaction(int fd, const SubvolumeInfo& one, const SubvolumeInfo& other);
// The path of a directory from the top level, without leading '/', wherever it is mounted.
std::string path_from_top_level(const std::string& directory);
// What a mount without subvol= and subvolid= shows.
std::uint64_t default_subvolume(int fd);
// A mount of the subvolume with this id of the file system that `path` lies on, with these attributes (MOUNT_ATTR_...), attached nowhere as
// yet. As open_top_level() otherwise.
FileDescriptor open_mount(const std::string& path, std::uint64_t subvolume_id, std::uint64_t attributes);
// A mount point of the btrfs with this UUID, "" if none is visible.
std::string find_mounted(const std::string& file_system_uuid);

}  // namespace nodesnap::btrfs
