// The values of the tree of names and inodes, as plain structs, with their keys and their stored encoding.
//
// encode_* gives the FlatBuffer that is stored; decode_* verifies first and throws Error::damaged for anything a writer could not have
// written (unknown type, over-long name, runs that overlap, nanoseconds over 999,999,999 ...). Pure functions, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

inline constexpr std::uint64_t kInlineContentLimit = 2048;  // bytes of a file or attribute kept inside the metadata
inline constexpr std::size_t kInlineRunLimit = 64;          // runs kept inside the inode record
inline constexpr std::size_t kKeyLimit = 264;
inline constexpr std::size_t kValueLimit = 8192;

// One run of a file map. kHole is never stored.
struct Run {
    enum Flags : std::uint32_t { kNone = 0, kUnwritten = 1, kDamagedSource = 2 };
    std::uint64_t offset = 0;  // in the file
    std::uint64_t length = 0;  // bytes, > 0
    PackId pack;               // null when flags != 0
    std::uint32_t first = 0;   // segment number
    std::uint32_t skip = 0;    // bytes into the plaintext of the first segment
    std::uint32_t count = 0;   // segments; 0 when flags != 0
    std::uint32_t flags = kNone;
    bool operator==(const Run&) const = default;
    std::uint64_t end() const { return offset + length; }
};

enum class FileType : std::uint8_t { kRegular = 1, kDirectory, kSymlink, kFifo, kSocket, kCharacterDevice, kBlockDevice };

struct Time {
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    auto operator<=>(const Time&) const = default;
};

struct NodeRef {
    SegmentRef at;
    std::uint8_t height = 0;  // 0: a leaf
    bool operator==(const NodeRef&) const = default;
};

struct Inode {
    FileType type = FileType::kRegular;
    std::uint16_t mode = 0;  // permission bits with setuid, setgid, sticky (07777)
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;
    std::uint64_t links = 1;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    Time accessed, modified, changed, born;
    std::uint32_t flags = 0;       // FS_*_FL of linux/fs.h
    std::uint64_t generation = 0;  // FS_IOC_GETVERSION, 0 if unknown
    std::uint32_t xattr_count = 0;
    bool damaged = false;         // part of it could not be read
    Bytes content;                // symlink target, or a small file's bytes
    std::vector<Run> runs;        // when the map is small
    std::optional<NodeRef> map;   // when it isn't
    std::uint64_t run_count = 0;  // of the whole map
    // Bytes in the map's runs with data; not known of every stored file with runs.
    std::optional<std::uint64_t> data_bytes;
    bool operator==(const Inode&) const = default;
};

struct Dirent {
    std::uint64_t ino = 0;
    FileType type = FileType::kRegular;
    bool operator==(const Dirent&) const = default;
};

struct Xattr {
    Bytes value;            // up to kInlineContentLimit
    std::vector<Run> runs;  // otherwise
    std::uint64_t size = 0;
    bool operator==(const Xattr&) const = default;
};

// Keys, compared as unsigned bytes.
namespace key {
enum class Kind : std::uint8_t { kInode = 0, kXattr = 1, kDirent = 2, kUser = 0x10, kGroup = 0x11 };
std::string inode(std::uint64_t ino);
std::string xattr(std::uint64_t ino, std::string_view name = {});
std::string dirent(std::uint64_t directory, std::string_view name = {});
std::string user(std::uint32_t uid);
std::string group(std::uint32_t gid);

struct Parts {
    std::uint64_t ino;
    Kind kind;
    std::string_view name;  // of the attribute or entry; the 4 bytes of an id for kUser, kGroup
};
Parts parse(std::string_view key);  // Error::damaged if malformed
}  // namespace key

Bytes encode(const Inode& inode);
Bytes encode(const Dirent& dirent);
Bytes encode(const Xattr& xattr);
Bytes encode_owner_name(std::string_view name);

Inode decode_inode(std::span<const std::byte> value);
Dirent decode_dirent(std::span<const std::byte> value);
Xattr decode_xattr(std::span<const std::byte> value);
std::string decode_owner_name(std::span<const std::byte> value);

}  // namespace nodesnap
