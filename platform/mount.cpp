#include "platform/mount.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr std::size_t kMountinfoLimit = 64u << 20;

// "\040" and the like.
std::string unescape(std::string_view text) {
    std::string plain;
    plain.reserve(text.size());
    const auto octal = [](char c) { return c >= '0' && c <= '7'; };
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
            plain += static_cast<char>(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0'));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

std::string_view take_until(std::string_view& text, char separator) {
    const std::size_t end = std::min(text.find(separator), text.size());
    const std::string_view field = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return field;
}

std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

bool has_option(std::string_view options, std::string_view option) {
    while (!options.empty()) {
        if (take_until(options, ',') == option) {
            return true;
        }
    }
    return false;
}

// 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue
std::optional<Mount> parse_line(std::string_view line) {
    Mount mount;
    std::uint64_t ignored = 0;
    mount.id = number(take_until(line, ' '));
    mount.parent_id = number(take_until(line, ' '));
    std::string_view device = take_until(line, ' ');
    const auto major = static_cast<unsigned>(number(take_until(device, ':')));
    mount.device = makedev(major, static_cast<unsigned>(number(device)));
    mount.root = unescape(take_until(line, ' '));
    mount.mount_point = unescape(take_until(line, ' '));
    mount.options = take_until(line, ' ');
    for (std::string_view field; !line.empty() && (field = take_until(line, ' ')) != "-";) {
        const std::string_view kind = take_until(field, ':');
        (kind == "shared" ? mount.shared : kind == "master" ? mount.master : ignored) = number(field);
    }
    mount.type = unescape(take_until(line, ' '));
    mount.source = unescape(take_until(line, ' '));
    mount.super_options = take_until(line, ' ');
    mount.read_only = has_option(mount.options, "ro") || has_option(mount.super_options, "ro");
    if (mount.mount_point.empty() || mount.type.empty()) {
        return std::nullopt;
    }
    return mount;
}

bool lies_below(const std::string& path, const std::string& directory) {
    const std::string prefix = directory == "/" ? directory : directory + "/";
    return path.size() > prefix.size() && path.starts_with(prefix);
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
    std::vector<Mount> mounts;
    while (!text.empty()) {
        if (auto mount = parse_line(take_until(text, '\n'))) {
            mounts.push_back(std::move(*mount));
        }
    }
    return mounts;
}

std::vector<Mount> list_mounts() {
    const auto text = read_small_file("/proc/self/mountinfo", kMountinfoLimit);
    if (!text) {
        throw Error::failed("cannot read /proc/self/mountinfo", "mount /proc");
    }
    return parse_mountinfo(*text);
}

Mount mount_of(const std::string& path) {
    const FileDescriptor file = open_path(path, O_PATH);
    const FileStatus status = stat_fd(file.get(), path);
    const std::string resolved = resolve_path(path);
    const Mount* best = nullptr;
    const std::vector<Mount> mounts = list_mounts();
    for (const Mount& mount : mounts) {
        // The id is exact also where mounts lie on top of each other; kernels before 5.8 don't tell it.
        if ((status.stx_mask & STATX_MNT_ID) != 0 && mount.id == status.stx_mnt_id) {
            return mount;
        }
        if ((resolved == mount.mount_point || lies_below(resolved, mount.mount_point)) &&
            (best == nullptr || mount.mount_point.size() >= best->mount_point.size())) {
            best = &mount;
        }
    }
    if (best == nullptr) {
        throw Error::failed("cannot find the mount that " + path + " lies on");
    }
    return *best;
}

bool is_mount_root(const std::string& directory) {
    return mount_of(directory).mount_point == resolve_path(directory);
}

std::vector<Mount> mounts_below(const std::string& directory) {
    const std::string resolved = resolve_path(directory);
    std::vector<Mount> below;
    for (Mount& mount : list_mounts()) {
        if (lies_below(mount.mount_point, resolved)) {
            below.push_back(std::move(mount));
        }
    }
    std::stable_sort(below.begin(), below.end(), [](const Mount& a, const Mount& b) { return a.mount_point < b.mount_point; });
    return below;
}

}  // namespace nodesnap
