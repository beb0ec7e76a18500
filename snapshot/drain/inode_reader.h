// Reads what the kernel tells about one inode into the record that is stored. Nothing of its content. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "platform/file.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

// Attributes from a status. Flags and generation come from add_flags().
Inode inode_of(const FileStatus& status);
// FS_*_FL flags that a restore can set again, and the generation; `fd` is a regular file or directory open for reading.
void add_flags(Inode& inode, int fd, const std::string& path);

struct SourceXattr {
    std::string name;
    Bytes value;
};
// `o_path`: the descriptor was opened with O_PATH (symlinks, special files).
std::vector<SourceXattr> read_xattrs(int fd, bool o_path, const std::string& path);

}  // namespace nodesnap
