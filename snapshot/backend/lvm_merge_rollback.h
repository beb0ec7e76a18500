// LvmMergeRollback: merges a classic snapshot into the volume that a node directory lies on, keeps what was there as another one, and makes
// the one that was merged anew. The volume is unmounted until all is copied. See docs/design.md, "Rolling back a classic volume".
//
// What a process that was killed has left is ended by finish_lvm_rollback(), and what must be mounted at once by mount_back(). Errors:
// nodesnap::Error. One thread. Needs root.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/backend/lvm_merge.h"
#include "snapshot/backend/lvm_way.h"

namespace nodesnap {

struct LvmMergeOptions {
    bool whole_volume = false;  // although there is more on it than the node directory
    // The longest that the volume may be unmounted: what isn't copied by then is while it is in use, and the snapshot isn't made anew.
    std::optional<std::chrono::nanoseconds> longest;
};

class LvmMergeRollback : public LvmWay {
public:
    LvmMergeRollback(const std::string& node_directory, const LvmMergeOptions& options, Progress& progress);

    bool unmounts() const override { return true; }
    // Afterwards there is none: what is mounted anywhere can't be merged into.
    std::vector<StaleMount> stale_mounts() const override;
    void inspect(const SnapshotEntry& snapshot) override;
    void prepare(const SnapshotEntry& snapshot, const std::string& kept) override;
    void exchange() override;
    bool exchanged() const override { return exchanged_; }
    std::string keep() override;
    std::string lost() const override { return lost_; }
    void require_shown() const override;

private:
    void refuse_covering() const;
    lvm::Volume find_snapshot(const SnapshotEntry& snapshot) const;
    void merge();
    bool wait_for_merge(const LvmMerge& merge);
    LvmShown recover() noexcept;

    const LvmMergeOptions options_;
    Progress& progress_;
    LvmRollbackNote note_;    // as it is recorded, or will be
    DirectoryIdentity node_;  // in the snapshot
    FileDescriptor mounted_;  // the volume, when it is in place again: nobody can unmount it
    std::int64_t unmounted_ns_ = 0;
    bool exchanged_ = false;
    std::string lost_;
};

}  // namespace nodesnap
