// BtrfsRollback: puts a writable clone of a snapshot in the place of a node directory that is a subvolume, by one exchange of names, and
// keeps what was there as a read-only snapshot. See docs/design.md, "Rolling back".
//
// All of it is done through a mount of the file system's top level that nobody else sees. A clone that wasn't put in place is removed by
// the destructor; what a process that was killed has left, by finish_btrfs_rollback(). Errors: nodesnap::Error. One thread. Needs
// CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "platform/btrfs.h"
#include "platform/file_descriptor.h"
#include "platform/mount.h"
#include "snapshot/backend/rollback_way.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {

class BtrfsRollback : public RollbackWay {
public:
    // Touches nothing. Error::refused where the directory can't be rolled back: it is a folder of a subvolume, or subvolume 5, or is
    // mounted by number (as `fstab` says), or other subvolumes or mounts lie below.
    BtrfsRollback(const std::string& node_directory, const std::string& snapshot_directory, const std::string& fstab = "/etc/fstab");
    ~BtrfsRollback() override;

    Layout layout() const override { return layout_; }
    std::uint64_t subvolume_id() const override { return exchanged_ ? clone_.id : live_.id; }
    // Without the node directory's own mount, and copies of it that follow what happens to it.
    std::vector<StaleMount> stale_mounts() const override;
    bool is_used_by_kernel() const override;  // told of a mounted subvolume only
    bool seals_replaced() const override { return true; }

    void inspect(const SnapshotEntry&) override {}
    void prepare(const SnapshotEntry& snapshot, const std::string& kept) override;
    void exchange() override;
    bool exchanged() const override { return exchanged_; }
    std::string keep() override;
    void require_shown() const override;

private:
    void refuse_nested() const;
    void refuse_by_number(const std::string& fstab) const;
    std::string seat_name() const { return seat_.substr(seat_.rfind('/') + 1); }
    FileDescriptor open_seat() const;
    void open_work();
    void make_clone(const SnapshotEntry& snapshot);
    void exchange_back() noexcept;

    std::string node_directory_;
    std::string snapshot_directory_;
    SnapshotNaming naming_;
    Layout layout_ = Layout::kFolder;
    std::string folder_;  // as snapshots' paths begin
    btrfs::SubvolumeInfo live_;
    FileDescriptor top_level_;  // O_PATH; must outlive what is opened through it
    FileDescriptor top_;
    std::string seat_;  // where the node directory lies, from the top level
    Mount mount_;       // that shows it
    FileDescriptor snapshots_;
    FileDescriptor work_;
    std::string kept_;
    btrfs::SubvolumeInfo clone_;
    bool prepared_ = false;
    bool exchanged_ = false;
};

// Ends a rollback of the directory that was cut off: takes back what wasn't put in place, or keeps what was replaced. Says which, as a
// sentence; empty if there was none, or one is being done. Must not be called while this process has something open on the mount of the
// node directory.
std::string finish_btrfs_rollback(const std::string& node_directory, const std::string& snapshot_directory);

}  // namespace nodesnap
