#include "snapshot/restore/identity.h"

#include "platform/btrfs.h"
#include "platform/file.h"
#include "platform/file_system.h"

namespace nodesnap {

std::string directory_identity(const std::string& path) {
    const auto directory = open_path(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    const auto status = stat_fd(directory.get(), path);
    // Device numbers may change at a restart, and on btrfs with every mount.
    auto identity = file_system_uuid_of(path) + " " + std::to_string(status.stx_ino);
    if (btrfs::is_btrfs(directory.get())) {
        identity += " " + std::to_string(btrfs::subvolume_id(directory.get()));
    }
    if ((status.stx_mask & STATX_BTIME) != 0) {
        identity += " " + std::to_string(status.stx_btime.tv_sec) + "." + std::to_string(status.stx_btime.tv_nsec);
    }
    return identity;
}

std::string identity_if_there(const std::string& path) {
    const auto status = stat_path(path, AT_SYMLINK_NOFOLLOW);
    return status && S_ISDIR(status->stx_mode) ? directory_identity(path) : std::string();
}

}  // namespace nodesnap
