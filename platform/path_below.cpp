#include "platform/path_below.h"

#include <string_view>

#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap {
namespace {

std::optional<std::string> below_by_name(std::string_view path, std::string_view ancestor) {
    if (ancestor == "/") {
        return std::string(path.substr(1));
    }
    if (!path.starts_with(ancestor) || (path.size() > ancestor.size() && path[ancestor.size()] != '/')) {
        return std::nullopt;
    }
    return std::string(path.size() == ancestor.size() ? "" : path.substr(ancestor.size() + 1));
}

bool same_inode(const FileStatus& a, const FileStatus& b) {
    return device_of(a) == device_of(b) && a.stx_ino == b.stx_ino;
}

// Meets the ancestor under whatever name it has on the way up: another case, another mount of it.
std::optional<std::string> below_by_inode(const std::string& directory, const FileStatus& ancestor) {
    std::string above = directory;
    while (true) {
        const auto status = stat_path(above);
        if (status && same_inode(*status, ancestor)) {
            return below_by_name(directory, above);
        }
        if (above == "/") {
            return std::nullopt;
        }
        const std::size_t slash = above.rfind('/');
        above.resize(slash == 0 ? 1 : slash);
    }
}

// Where something lies in its file system, whatever part of that is mounted.
struct FileSystemPath {
    std::uint64_t device = 0;
    std::string path;
};

FileSystemPath in_file_system(const std::string& directory) {
    const Mount mount = mount_of(directory);
    const std::string rest = below_by_name(directory, mount.mount_point).value_or("");
    const bool at_root = mount.root == "/";
    return {mount.device, rest.empty() ? mount.root : mount.root + (at_root ? "" : "/") + rest};
}

}  // namespace

std::optional<std::string> path_below(const std::string& directory, const std::string& ancestor) {
    const std::string inner = resolve_path(directory);
    const std::string outer = resolve_path(ancestor);
    if (auto found = below_by_inode(inner, stat_path(outer).value())) {
        return found;
    }
    const FileSystemPath inner_place = in_file_system(inner);
    const FileSystemPath outer_place = in_file_system(outer);
    return inner_place.device == outer_place.device ? below_by_name(inner_place.path, outer_place.path) : std::nullopt;
}

}  // namespace nodesnap
