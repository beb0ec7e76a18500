#include "snapshot/command/file_listing.h"

#include <iomanip>
#include <limits>
#include <sstream>

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

std::string target_of(const Inode& symlink) {
    return {reinterpret_cast<const char*>(symlink.content.data()), symlink.content.size()};
}

// A symlink's size is its target's length, as stat(2) has it.
std::uint64_t size_of(const Inode& inode) {
    return inode.type == FileType::kSymlink ? inode.content.size() : inode.size;
}

bool is_device(const Inode& inode) {
    return inode.type == FileType::kCharacterDevice || inode.type == FileType::kBlockDevice;
}

}  // namespace

const char* type_name(FileType type) {
    switch (type) {
        case FileType::kRegular:
            return "file";
        case FileType::kDirectory:
            return "directory";
        case FileType::kSymlink:
            return "symlink";
        case FileType::kFifo:
            return "fifo";
        case FileType::kSocket:
            return "socket";
        case FileType::kCharacterDevice:
            return "character device";
        case FileType::kBlockDevice:
            return "block device";
    }
    return "unknown";
}

std::string mode_text(const Inode& inode) {
    constexpr std::string_view kTypes = "?-dlpscb";
    const auto type = static_cast<std::size_t>(inode.type);
    std::string text(1, kTypes[type < kTypes.size() ? type : 0]);
    for (int bit = 8; bit >= 0; --bit) {
        text += (inode.mode >> bit & 1U) != 0 ? "xwr"[bit % 3] : '-';
    }
    const auto special = [&](unsigned mask, std::size_t at, char executable, char plain) {
        if ((inode.mode & mask) != 0) {
            text[at] = text[at] == 'x' ? executable : plain;
        }
    };
    special(04000, 3, 's', 'S');
    special(02000, 6, 's', 'S');
    special(01000, 9, 't', 'T');
    return text;
}

std::int64_t nanoseconds(const Time& time) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / kSecond - 1;
    if (time.seconds > kMost || time.seconds < -kMost) {
        return time.seconds < 0 ? -kMost * kSecond : kMost * kSecond;
    }
    return time.seconds * kSecond + time.nanoseconds;
}

std::string OwnerNames::user(std::uint32_t uid) const {
    return look_up(key::user(uid), last_user_);
}
std::string OwnerNames::group(std::uint32_t gid) const {
    return look_up(key::group(gid), last_group_);
}

std::string OwnerNames::look_up(const std::string& key, Named& last) const {
    if (last.key != key) {
        const auto value = tree_find(repository_.nodes(), manifest_.tree, key);
        last = {key, value ? decode_owner_name(*value) : std::string{}};
    }
    return last.name;
}

std::string file_line(std::string_view path, const Inode& inode, const OwnerNames& owners) {
    const auto owner = [](const std::string& name, std::uint32_t id) { return name.empty() ? std::to_string(id) : printable_name(name); };
    const std::string size =
        is_device(inode) ? std::to_string(inode.device_major) + ", " + std::to_string(inode.device_minor) : std::to_string(size_of(inode));
    std::ostringstream line;
    line << mode_text(inode) << std::right << std::setw(3) << inode.links << ' ' << std::left << std::setw(8)
         << owner(owners.user(inode.uid), inode.uid) << ' ' << std::setw(8) << owner(owners.group(inode.gid), inode.gid) << std::right
         << std::setw(13) << size << ' ' << utc(nanoseconds(inode.modified)) << "  " << printable_name(path);
    if (inode.type == FileType::kSymlink) {
        line << " -> " << printable_name(target_of(inode));
    }
    if (inode.damaged) {
        line << "  (incomplete: parts could not be read)";
    }
    return line.str();
}

void write_file(JsonWriter& document, std::string_view path, std::uint64_t ino, const Inode& inode, const OwnerNames& owners) {
    document.name("path", path);
    document.member("type", type_name(inode.type));
    document.member("inode", ino);
    document.member("mode", mode_text(inode));
    document.member("links", inode.links);
    document.member("uid", inode.uid);
    document.member("user", owners.user(inode.uid));
    document.member("gid", inode.gid);
    document.member("group", owners.group(inode.gid));
    document.member("size", size_of(inode));
    document.member("modified_time", format_utc_precise(nanoseconds(inode.modified)));
    if (inode.type == FileType::kSymlink) {
        document.name("target", target_of(inode));
    }
    if (is_device(inode)) {
        document.member("device_major", inode.device_major);
        document.member("device_minor", inode.device_minor);
    }
    if (inode.damaged) {
        document.member("incomplete", true);
    }
}

}  // namespace nodesnap::command
