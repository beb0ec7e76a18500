// LvmRollback: puts a thin volume that is made of a snapshot in the place of the one that a node directory lies on, file system and all,
// and keeps what was there as a read-only snapshot. See docs/design.md, "Rolling back a thin volume".
//
// What wasn't put in place is removed by the destructor; what a process that was killed has left, by finish_lvm_rollback(). Errors:
// nodesnap::Error. One thread. Needs root.
#pragma once

#include <string>

#include "snapshot/backend/lvm_exchange.h"
#include "snapshot/backend/lvm_way.h"

namespace nodesnap {

struct LvmRollbackOptions {
    bool whole_volume = false;  // although there is more on it than the node directory
    std::string fstab = "/etc/fstab";
};

class LvmRollback : public LvmWay {
public:
    // Of a node directory on a thin volume. As LvmWay; also refused where fstab wouldn't find what is put in place.
    LvmRollback(const std::string& node_directory, const LvmRollbackOptions& options);
    ~LvmRollback() override;

    void inspect(const SnapshotEntry& snapshot) override;
    void prepare(const SnapshotEntry& snapshot, const std::string& kept) override;
    void exchange() override;
    bool exchanged() const override { return exchanged_; }
    std::string keep() override;
    void require_shown() const override;

private:
    void refuse_by_uuid(const std::string& fstab) const;
    lvm::Volume find_snapshot(const SnapshotEntry& snapshot) const;
    void make_volume(const lvm::Volume& snapshot);
    void try_volume(const lvm::Volume& made);
    LvmShown recover() noexcept;

    DirectoryIdentity node_;  // in the volume that is made
    FileDescriptor mounted_;  // that one, when it is in place: nobody can unmount it
    bool exchanged_ = false;
};

}  // namespace nodesnap
