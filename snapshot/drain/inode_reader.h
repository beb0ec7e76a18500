// Reads what the kernel tells about one inode into the record that is stored. Nothing of its content. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "platform/file.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

class CloneIndex;

// Attributes from a status. Flags and generation come from add_flags().
Inode inode_of(const FileStatus& status);
// FS_*_FL flags that a restore can set again, and the generation; `fd` is a regular file or directory open for reading.
void add_flags(Inode& inode, int fd, const std::string& path);

struct SourceInode {
    std::uint64_t ino = 0;
    Inode inode;
    std::vector<UnwrittenRange> unwritten;  // besides what its extents tell
};
// All of the above. `readable`: a regular file or directory that is open for reading; otherwise `fd` was opened with O_PATH. `clones`: of
// what it is a clone of, if it is in such a tree; or nullptr.
SourceInode read_source_inode(int fd, bool readable, const CloneIndex* clones, const std::string& path);

struct SourceXattr {
    std::string name;
    Bytes value;
};
// `o_path`: the descriptor was opened with O_PATH (symlinks, special files). Without what nodesnap itself gives to clones.
std::vector<SourceXattr> read_xattrs(int fd, bool o_path, const std::string& path);

}  // namespace nodesnap
