// LocalSnapshot: the snapshot of a backup that is still there on the storage that is restored to, so that what it holds needn't be read
// from the repository, nor compared.
#pragma once

#include <optional>
#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/repository/repository.h"
#include "snapshot/restore/owners.h"

namespace nodesnap {

struct LocalSnapshot {
    std::optional<Manifest> backup;  // none: there is no such snapshot
    FileDescriptor top_level;        // must outlive `root`
    FileDescriptor root;             // of the subvolume, read-only
    explicit operator bool() const { return backup.has_value(); }
    // Whether it still is what that backup was drained from.
    bool proved() const;
};

// Of the wanted backup itself, or of the newest of the last kBackupsLookedAt that has one. The snapshot's root must be the node directory,
// and both backups complete. `parent` is the directory, on btrfs, beside whose entries a clone is to be made. Needs CAP_SYS_ADMIN; without
// it there is none.
inline constexpr int kBackupsLookedAt = 64;
LocalSnapshot find_local_snapshot(const Repository& repository, const Manifest& wanted, const std::string& parent);

// Whether all owners of the backup keep their numbers here.
bool owners_stay(const Repository& repository, const Manifest& backup, OwnerMap& owners);

}  // namespace nodesnap
