// RollbackWay: how a snapshot takes the place of a node directory, and what was there becomes one, on one kind of storage.
//
//     way->inspect(entry);         // refuses what can't be done; touches nothing
//     way->prepare(entry, kept);   // the new directory is there, beside; nothing is seen of it
//     way->exchange();             // the node directory is that of the snapshot, durably
//     way->keep();                 // what was there is a snapshot
//
// What wasn't put in place is removed by the destructor; what a process that was killed has left, by finish_rollback(). Errors:
// nodesnap::Error. One thread. Needs CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/backend/backend.h"
#include "snapshot/backend/rollback_mounts.h"

namespace nodesnap {

class RollbackWay {
public:
    RollbackWay() = default;
    RollbackWay(const RollbackWay&) = delete;
    RollbackWay& operator=(const RollbackWay&) = delete;
    virtual ~RollbackWay() = default;

    virtual Layout layout() const = 0;
    // Of what the node directory shows: before exchange() what is to go, then what came. 0 where it isn't a subvolume.
    virtual std::uint64_t subvolume_id() const = 0;
    // The logical volume that goes with the directory, "vg/data"; empty where it isn't that.
    virtual std::string volume() const { return ""; }
    // The directory that is replaced, if that is more than the node directory; else empty.
    virtual std::string all_replaced() const { return ""; }
    // In all mount namespaces, what goes on showing what the directory was. Not what follows it by itself.
    virtual std::vector<StaleMount> stale_mounts() const = 0;
    // Something uses the node directory that no process has open, as far as the kernel tells.
    virtual bool is_used_by_kernel() const = 0;
    // Nobody can write to what was replaced any more, whoever has it open.
    virtual bool seals_replaced() const = 0;
    // Nothing is mounted where the directory is while it is exchanged: nobody may use it, nor show it elsewhere.
    virtual bool unmounts() const { return false; }
    // After keep(): what became of the snapshot that was put in place, as a sentence, if it isn't one any more; else empty.
    virtual std::string lost() const { return ""; }
    // The directory was immutable or append-only in the snapshot, and isn't now.
    virtual bool has_sealed_root() const { return false; }

    // Error::refused if the snapshot can't be put in place, for want of space say.
    virtual void inspect(const SnapshotEntry& snapshot) = 0;
    // After inspect(): the patterns of what was left out when the snapshot was taken.
    virtual std::vector<std::string> left_out() const { return {}; }
    // Error::refused if another process is at it, or the snapshot isn't one any more.
    virtual void prepare(const SnapshotEntry& snapshot, const std::string& kept) = 0;
    // Durable when it returns. If it throws, the directory is what it was, unless exchanged() is true.
    virtual void exchange() = 0;
    virtual bool exchanged() const = 0;
    // Durable when it returns; the snapshot's path.
    virtual std::string keep() = 0;
    // Error::failed if the node directory's path doesn't show what was put in its place.
    virtual void require_shown() const = 0;
};

}  // namespace nodesnap
