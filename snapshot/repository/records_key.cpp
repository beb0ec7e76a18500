#include <algorithm>

#include "platform/error.h"
#include "snapshot/repository/records.h"

namespace nodesnap::key {
namespace {

constexpr std::size_t kPrefix = 9;  // inode number and kind
constexpr std::size_t kNameLimit = 255;
constexpr std::size_t kOwnerIdBytes = 4;

template <typename T>
void append_big_endian(std::string& text, T value) {
    for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
        text.push_back(static_cast<char>(value >> shift & 0xff));
    }
}

std::string make(std::uint64_t ino, Kind kind, std::string_view name) {
    std::string key;
    key.reserve(kPrefix + name.size());
    append_big_endian(key, ino);
    key.push_back(static_cast<char>(kind));
    key.append(name);
    return key;
}

std::string owner(Kind kind, std::uint32_t id) {
    std::string key = make(0, kind, {});
    append_big_endian(key, id);
    return key;
}

[[noreturn]] void malformed(const char* what) {
    throw Error::damaged("a metadata record's key", what);
}

void check_name(Kind kind, std::string_view name) {
    if (name.empty() || name.size() > kNameLimit || name.find('\0') != std::string_view::npos) {
        malformed("a name is empty, too long, or holds a zero byte");
    }
    // A name that leads elsewhere would let a hostile backup write outside of where it is restored to.
    if (kind == Kind::kDirent && (name == "." || name == ".." || name.find('/') != std::string_view::npos)) {
        malformed("a directory entry's name is a path");
    }
}

}  // namespace

std::string inode(std::uint64_t ino) {
    return make(ino, Kind::kInode, {});
}
std::string xattr(std::uint64_t ino, std::string_view name) {
    return make(ino, Kind::kXattr, name);
}
std::string dirent(std::uint64_t directory, std::string_view name) {
    return make(directory, Kind::kDirent, name);
}
std::string user(std::uint32_t uid) {
    return owner(Kind::kUser, uid);
}
std::string group(std::uint32_t gid) {
    return owner(Kind::kGroup, gid);
}

Parts parse(std::string_view key) {
    if (key.size() < kPrefix || key.size() > kKeyLimit) {
        malformed("its length is out of bounds");
    }
    Parts parts{};
    for (std::size_t i = 0; i < 8; ++i) {
        parts.ino = parts.ino << 8 | static_cast<unsigned char>(key[i]);
    }
    parts.kind = static_cast<Kind>(static_cast<unsigned char>(key[8]));
    parts.name = key.substr(kPrefix);
    switch (parts.kind) {
        case Kind::kInode:
            if (!parts.name.empty() || parts.ino == 0) {
                malformed("an inode's key has a name, or no number");
            }
            return parts;
        case Kind::kXattr:
        case Kind::kDirent:
            if (parts.ino == 0) {
                malformed("no inode has the number 0");
            }
            check_name(parts.kind, parts.name);
            return parts;
        case Kind::kUser:
        case Kind::kGroup:
            if (parts.ino != 0 || parts.name.size() != kOwnerIdBytes) {
                malformed("an owner's key has the wrong length");
            }
            return parts;
    }
    malformed("unknown kind of record");
}

}  // namespace nodesnap::key
