// CloneOrigin: what an inode of a snapshot made of clones was in the node directory, where the clone can't be the same: its number and
// generation, times that can't be set, links that lie outside, flags that would forbid to remove the clone, and space that is allocated but
// unwritten, which the kernel doesn't clone.
//
// It is an extended attribute of the clone itself, of whatever type that is, so that a clone that is there says what it is of, and no list
// has to agree with the tree. Needs CAP_SYS_ADMIN ("trusted."). Errors are nodesnap::Error. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "snapshot/repository/records.h"

namespace nodesnap {

// Of a clone, and of nothing that is backed up or cloned.
inline constexpr const char* kCloneOriginAttribute = "trusted.nodesnap.origin";

struct UnwrittenRange {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool operator==(const UnwrittenRange&) const = default;
};

struct CloneOrigin {
    // More don't fit into an attribute on each file system; of such a file the clone gets room of its own.
    static constexpr std::size_t kUnwrittenLimit = 200;

    std::uint64_t ino = 0;
    std::uint64_t generation = 0;  // FS_IOC_GETVERSION, 0 if unknown
    std::uint64_t links = 1;
    std::uint32_t flags = 0;  // FS_*_FL of linux/fs.h
    Time accessed, changed, born;
    std::vector<UnwrittenRange> unwritten;  // ascending; also beyond the end of the file
    bool operator==(const CloneOrigin&) const = default;
};

Bytes encode(const CloneOrigin& origin);
// Error::failed if that is no origin, with `path` for the message.
CloneOrigin decode_clone_origin(std::span<const std::byte> value, const std::string& path);

// `o_path`: the descriptor was opened with O_PATH. Error::failed if there is none: what has none is no clone of ours.
CloneOrigin read_clone_origin(int fd, bool o_path, const std::string& path);
CloneOrigin read_clone_origin_at(int directory, const std::string& name, const std::string& path);
void write_clone_origin(int fd, bool o_path, const CloneOrigin& origin, const std::string& path);

// Makes of what the clone says of itself what the node's inode was.
void apply(const CloneOrigin& origin, Inode& inode);

}  // namespace nodesnap
