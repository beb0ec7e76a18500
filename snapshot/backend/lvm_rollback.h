// LvmRollback: puts a thin volume that is made of a snapshot in the place of the one that a node directory lies on, file system and all,
// and keeps what was there as a read-only snapshot. See docs/design.md, "Rolling back a thin volume".
//
// What wasn't put in place is removed by the destructor; what a process that was killed has left, by finish_lvm_rollback(). Errors:
// nodesnap::Error. One thread. Needs root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/mount.h"
#include "snapshot/backend/lvm_exchange.h"
#include "snapshot/backend/lvm_place.h"
#include "snapshot/backend/lvm_rollback_record.h"
#include "snapshot/backend/rollback_way.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {

struct LvmRollbackOptions {
    bool whole_volume = false;  // although there is more on it than the node directory
    std::string fstab = "/etc/fstab";
};

class LvmRollback : public RollbackWay {
public:
    // Touches nothing. Error::refused where the directory can't be rolled back so: its volume isn't thin, or isn't mounted as a whole,
    // there is more on it, or something is mounted below.
    LvmRollback(const std::string& node_directory, const LvmRollbackOptions& options);
    ~LvmRollback() override;

    Layout layout() const override { return place_.layout(); }
    std::uint64_t subvolume_id() const override { return 0; }
    std::string volume() const override { return place_.volume().full_name(); }
    std::string all_replaced() const override { return mount_.mount_point; }
    std::vector<StaleMount> stale_mounts() const override;
    bool is_used_by_kernel() const override;
    bool seals_replaced() const override { return false; }

    void inspect(const SnapshotEntry& snapshot) override;
    void prepare(const SnapshotEntry& snapshot, const std::string& kept) override;
    void exchange() override;
    bool exchanged() const override { return exchanged_; }
    std::string keep() override;
    void require_shown() const override;

private:
    struct Identity {
        std::uint64_t ino = 0, generation = 0;
        bool operator==(const Identity&) const = default;
    };
    static Identity identity_of(int directory);

    void refuse_mount() const;
    void refuse_others() const;
    void refuse_by_uuid(const std::string& fstab) const;
    lvm::Volume find_snapshot(const SnapshotEntry& snapshot) const;
    void make_volume(const lvm::Volume& snapshot);
    void try_volume(const lvm::Volume& made);
    LvmShown recover() noexcept;

    const std::string node_directory_;
    const LvmPlace place_;
    const Mount mount_;  // that shows the volume
    const SnapshotNaming naming_;
    std::optional<LvmRollbackRecord> record_;
    Identity node_;           // in the volume that is made
    FileDescriptor mounted_;  // that one, when it is in place: nobody can unmount it
    bool exchanged_ = false;
};

}  // namespace nodesnap
