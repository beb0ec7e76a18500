// LvmWay: what rolling back a node directory has in common on thin and on classic logical volumes: the volume goes back as a whole, with
// the file system on it and all that this holds, and what is noted of it lies in the host's state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/error.h"
#include "platform/lvm.h"
#include "platform/mount.h"
#include "snapshot/backend/lvm_place.h"
#include "snapshot/backend/lvm_rollback_record.h"
#include "snapshot/backend/noted_volumes.h"
#include "snapshot/backend/rollback_way.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {

// Which directory it is, on its file system.
struct DirectoryIdentity {
    std::uint64_t ino = 0, generation = 0;
    static DirectoryIdentity of(int directory);
    bool operator==(const DirectoryIdentity&) const = default;
};

class LvmWay : public RollbackWay {
public:
    Layout layout() const override { return place_.layout(); }
    std::uint64_t subvolume_id() const override { return 0; }
    std::string volume() const override { return place_.volume().full_name(); }
    std::string all_replaced() const override { return mount_.mount_point; }
    std::vector<StaleMount> stale_mounts() const override;
    bool is_used_by_kernel() const override;
    bool seals_replaced() const override { return false; }

protected:
    // Touches nothing. Error::refused where the volume isn't mounted as a whole, something is mounted below, or, unless it is to go back as
    // well, there is more on it.
    LvmWay(const std::string& node_directory, bool whole_volume);

    // The volume that it is on storage. Error::refused if there is none.
    lvm::Volume find_own(const SnapshotEntry& snapshot) const;
    [[noreturn]] void refuse_gone(const SnapshotEntry& snapshot) const;
    LvmRollbackNote note_of(const SnapshotEntry& snapshot, const std::string& kept) const;
    // With a record. Error::failed if something was unmounted or mounted since it was looked at.
    void require_still_mounted() const;
    [[noreturn]] void fail_unmounted(const Error& error) const;

    const std::string node_directory_;
    const LvmPlace place_;
    const Mount mount_;  // that shows the volume
    const SnapshotNaming naming_;
    std::optional<LvmRollbackRecord> record_;

private:
    void refuse_mount() const;
    void refuse_others() const;
};

}  // namespace nodesnap
