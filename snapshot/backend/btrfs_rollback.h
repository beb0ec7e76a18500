// BtrfsRollback: puts a writable clone of a snapshot in the place of a node directory that is a subvolume, by one exchange of names, and
// keeps what was there as a read-only snapshot. See docs/design.md, "Rolling back".
//
//     BtrfsRollback rollback(node_directory, snapshot_directory);   // looks, refuses
//     rollback.prepare(entry, kept);   // the clone is there, beside; nothing is seen of it
//     rollback.exchange();             // the node directory is that of the snapshot, durably
//     rollback.keep();                 // what was there is a snapshot
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
#include "snapshot/backend/backend.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {

// A mount that would go on showing what the node directory was.
struct StaleMount {
    std::string shown;    // "/srv/copy", or "/srv/copy in the mount namespace of process 123 (nginx)"
    std::string unmount;  // the command that unmounts it
};

class BtrfsRollback {
public:
    // Touches nothing. Error::refused where the directory can't be rolled back: it is a folder of a subvolume, or subvolume 5, or is
    // mounted by number (as `fstab` says), or other subvolumes or mounts lie below.
    BtrfsRollback(const std::string& node_directory, const std::string& snapshot_directory, const std::string& fstab = "/etc/fstab");
    ~BtrfsRollback();
    BtrfsRollback(const BtrfsRollback&) = delete;
    BtrfsRollback& operator=(const BtrfsRollback&) = delete;

    Layout layout() const { return layout_; }
    // Of what the node directory shows: before exchange() what is to go, then the clone.
    std::uint64_t subvolume_id() const { return exchanged_ ? clone_.id : live_.id; }
    std::uint64_t replaced_id() const { return live_.id; }
    // In all mount namespaces; without the node directory's own mount, and copies of it that follow what happens to it.
    std::vector<StaleMount> stale_mounts() const;
    // Of a mounted subvolume: something uses the mount that no process has open.
    bool mount_is_used() const;

    // Error::refused if another process is at it, or the snapshot isn't one any more.
    void prepare(const SnapshotEntry& snapshot, const std::string& kept);
    // Durable when it returns. If it throws, the directory is what it was, unless exchanged() is true.
    void exchange();
    bool exchanged() const { return exchanged_; }
    // The same; returns the snapshot's path.
    std::string keep();
    // Error::failed if the node directory's path doesn't show the clone.
    void require_shown() const;

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
