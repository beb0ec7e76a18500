#include "snapshot/restore/local_snapshot.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "platform/btrfs.h"
#include "platform/btrfs_tree.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

bool serves(const Manifest& backup, const Manifest& wanted) {
    return !backup.proof.path.empty() && backup.proof.backend == "btrfs" && !backup.damaged && backup.root_ino == btrfs::kFirstIno &&
           wanted.root_ino == btrfs::kFirstIno;
}

// The folders that may hold the snapshot: where it was, and where it would be found from here if the file system is mounted elsewhere.
class Folders {
public:
    explicit Folders(const std::string& parent) : parent_(parent), uuid_(btrfs::fs_uuid(open_path(parent, O_RDONLY | O_DIRECTORY).get())) {}

    const std::string& file_system_uuid() const { return uuid_; }

    LocalSnapshot find(const Manifest& backup) {
        const auto& path = backup.proof.path;
        const auto slash = path.rfind('/');
        if (slash == std::string::npos || slash == 0) {
            return {};
        }
        const auto name = path.substr(slash + 1);
        for (const auto& folder : {path.substr(0, slash), parent_ + "/" + kSnapshotFolder}) {
            if (folder.starts_with('/') && stat_path(folder)) {
                const auto opened = open_path(folder, O_RDONLY | O_DIRECTORY);
                if (auto found = find_in(opened, name, backup)) {
                    return found;
                }
            }
        }
        auto top_level = btrfs::open_top_level(parent_);
        auto found = find_in(open_top_level_folder(top_level.get(), false), name, backup);
        found.top_level = std::move(top_level);
        return found;
    }

private:
    static LocalSnapshot find_in(const FileDescriptor& folder, const std::string& name, const Manifest& backup) {
        LocalSnapshot found;
        for (const auto& called : {name, without_temporary(name)}) {  // one that was kept lost the mark of a backup's
            if (!folder || found) {
                break;
            }
            found.root = FileDescriptor(std::max(try_open_long(folder.get(), called, kDirectory), -1));
            if (found.root && btrfs::is_btrfs(found.root.get()) && btrfs::is_subvolume(found.root.get())) {
                found.backup = backup;
                if (!found.proved()) {
                    found.backup.reset();
                }
            }
        }
        return found;
    }

    const std::string parent_;
    const std::string uuid_;
};

LocalSnapshot find_among(const Repository& repository, const Manifest& wanted, Folders& folders) {
    const auto look_at = [&](const Manifest& backup) {
        return serves(backup, wanted) && backup.proof.file_system_uuid == folders.file_system_uuid() ? folders.find(backup)
                                                                                                     : LocalSnapshot();
    };
    auto found = look_at(wanted);
    int left = kBackupsLookedAt;
    if (!found) {
        repository.for_each_backup_backwards([&](const BackupEntry& entry) {
            if (entry.manifest && !(entry.manifest->id == wanted.id)) {
                found = look_at(*entry.manifest);
            }
            return !found && --left > 0;
        });
    }
    return found;
}

}  // namespace

bool LocalSnapshot::proved() const {
    const auto& proof = backup->proof;
    const auto now = btrfs::subvolume_info(root.get());
    return now.read_only && proof.read_only && Uuid{now.uuid} == proof.subvolume_uuid && now.otransid == proof.otransid &&
           now.ctransid == proof.ctransid && btrfs::fs_uuid(root.get()) == proof.file_system_uuid;
}

LocalSnapshot find_local_snapshot(const Repository& repository, const Manifest& wanted, const std::string& parent) {
    if (wanted.damaged || !btrfs::is_btrfs(parent)) {
        return {};
    }
    try {
        Folders folders(parent);
        return find_among(repository, wanted, folders);
    } catch (const Error&) {
        return {};  // it would only have made things faster
    }
}

bool owners_stay(const Repository& repository, const Manifest& backup, OwnerMap& owners) {
    TreeCursor cursor(repository.nodes(), backup.tree, key::user(0));
    TreeEntry entry;
    while (cursor.next(entry)) {
        const auto parts = key::parse(entry.key);
        if (parts.kind != key::Kind::kUser && parts.kind != key::Kind::kGroup) {
            return true;
        }
        std::uint32_t id = 0;
        for (const char byte : parts.name) {
            id = id << 8 | static_cast<unsigned char>(byte);
        }
        if ((parts.kind == key::Kind::kUser ? owners.user(id) : owners.group(id)) != id) {
            return false;
        }
    }
    return true;
}

}  // namespace nodesnap
