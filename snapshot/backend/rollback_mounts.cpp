#include "snapshot/backend/rollback_mounts.h"

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "snapshot/shell_word.h"

namespace nodesnap {

StaleMount described(const SeenMount& seen) {
    if (seen.pid == 0) {
        return {seen.mount.mount_point, "umount " + shell_word(seen.mount.mount_point)};
    }
    const std::string pid = std::to_string(seen.pid);
    return {seen.mount.mount_point + " in the mount namespace of process " + pid + " (" + seen.command + ")",
            "nsenter --target " + pid + " --mount umount " + shell_word(seen.mount.mount_point)};
}

bool at_or_below(const std::string& path, const std::string& directory) {
    return path == directory || path.starts_with(directory + "/");
}

std::string path_in_file_system(const Mount& mount, const std::string& path) {
    const std::string& above = mount.mount_point;
    const std::string rest = path.substr(above == "/" ? 0 : std::min(above.size(), path.size()));
    return (mount.root == "/" ? "" : mount.root) + rest;
}

bool follows(const Mount& own, const Mount& own_parent, const SeenMount& other) {
    const std::uint64_t group = own_parent.shared;
    return group != 0 && (other.parent.shared == group || other.parent.master == group) && other.parent.device == own_parent.device &&
           path_in_file_system(other.parent, other.mount.mount_point) == path_in_file_system(own_parent, own.mount_point);
}

Mount parent_of_mount(const Mount& mount) {
    for (Mount& other : list_mounts()) {
        if (other.id == mount.parent_id) {
            return std::move(other);
        }
    }
    return {};
}

void refuse_mounts_below(const std::string& node_directory) {
    std::vector<std::string> mounts;
    for (const Mount& mount : mounts_below(node_directory)) {
        mounts.push_back(mount.mount_point);
    }
    if (!mounts.empty()) {
        throw Error::refused("something is mounted below the node directory " + node_directory + ": " + named_in_message(mounts),
                             "unmount it, and mount it again afterwards");
    }
}

std::string named_in_message(const std::vector<std::string>& names) {
    constexpr std::size_t kNamed = 5;
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) {
        text += (i == 0 ? "" : ", ") + names[i];
    }
    return text + (names.size() > kNamed ? " and " + std::to_string(names.size() - kNamed) + " more" : "");
}

}  // namespace nodesnap
