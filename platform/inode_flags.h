// Inode flags (FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NOCOW_FL ... of <linux/fs.h>) and the generation of an inode number, by descriptor of a
// regular file or directory. "Not supported here" is an answer (nullopt, false), other failures throw.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nodesnap {

std::optional<std::uint32_t> inode_flags(int fd, const std::string& path_for_errors = "");
// False if the file system has no such flags, or not one of these (ENOTTY, EOPNOTSUPP); throws otherwise (EPERM ...).
bool set_inode_flags(int fd, std::uint32_t flags, const std::string& path_for_errors = "");
// 0 where the file system doesn't tell.
std::uint64_t inode_generation(int fd);
// Of quotas; 0 where there is none, or the file system doesn't tell.
std::uint32_t project_id(int fd);

}  // namespace nodesnap
