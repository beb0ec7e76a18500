// SnapshotBackend: takes read-only views of a node directory with what its storage offers.
//
// A backend is chosen for one node directory by choose_backend(), which also runs the preflight: layout, nested subvolumes and mounts. What
// a backend can't do safely it refuses (Error::refused, nothing touched). Needs CAP_SYS_ADMIN for btrfs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/exclude.h"
#include "snapshot/repository/manifest.h"

namespace nodesnap {

class CloneIndex;
class SameBlocks;
class SnapshotFiles;

enum class Layout { kFolder, kSubvolume, kMountRoot };  // what the node directory is
std::string to_string(Layout layout);                   // "folder", "subvolume", "mounted subvolume"

// One snapshot that exists on storage.
struct SnapshotEntry {
    std::string name;  // unique among the node directory's snapshots
    std::string path;  // where an operator finds it; in the file system's top level: "btrfs:UUID/.nodesnap/NAME"
    std::int64_t created_ns = 0;
    bool temporary = false;  // made by a backup, not by `snapshot create`
    bool in_use = false;     // list(): a running program has it as a Snapshot
};

// A snapshot in use. Removed by the destructor unless keep() was called (errors of that removal go nowhere: call remove() to hear of them).
class Snapshot {
public:
    virtual ~Snapshot() = default;
    virtual int root() const = 0;                                 // descriptor of the node directory as it was, O_RDONLY | O_DIRECTORY
    virtual std::uint64_t root_ino() const;                       // the node directory's number
    virtual const CloneIndex* clones() const { return nullptr; }  // of one that is a tree of clones
    // Of one whose files are to be opened so, and are told to be unchanged by where their data lies. nullptr: all others.
    virtual const SnapshotFiles* files() const { return nullptr; }
    virtual const SnapshotEntry& entry() const = 0;
    virtual SnapshotProof proof() const = 0;
    virtual std::int64_t taken_ns() const = 0;     // UTC
    virtual std::int64_t duration_ns() const = 0;  // of the call that took it
    // As far as is known by now: `none` looks again whether the directory is in use, and throws Error::failed if it came to be while it was
    // read.
    virtual Consistency consistency() const = 0;
    // Error::failed if what is read of it may not be what was there, for good: a classic snapshot of a logical volume that has overflowed,
    // say. Tells what is known by now, or looks first: then all that was read before is right if this returns. Any thread.
    virtual void check([[maybe_unused]] bool now) {}
    // Ends what need not be done while the daemon is held, and makes the snapshot durable: before it is recorded anywhere. Not needed
    // unless BackendOptions::held; may be called again.
    virtual void settle() {}
    // Whether it may be there until the next backup without harm to the daemon. Asked when all is read.
    virtual bool may_stay() const { return true; }
    virtual void keep() noexcept = 0;
    // As keep(), and it is one of `snapshot create`'s from now on: no backup removes it.
    virtual void keep_for_operator() = 0;
    virtual void remove() = 0;  // durable when it returns; may be called again after a failure
};

// About.
struct HeldSpace {
    std::uint64_t alone_bytes = 0;      // would come free were it removed alone
    std::uint64_t shared_bytes = 0;     // at most so much besides, were others removed with it
    bool shares_within = false;         // some of these may come free with it alone, too
    std::uint64_t elsewhere_bytes = 0;  // would come free, but not for the node's file system: in the volume group, or its pool
    bool frees_nothing_alone() const { return alone_bytes == 0 && !shares_within; }
};

struct Descent {
    bool known = false;  // otherwise the dates of what lies there tell nothing
    // Both come from one that was changed last by this transaction, and whatever of either was changed since has a later date. 0: the one
    // comes from the other.
    std::uint64_t forked_at = 0;
};

class SnapshotBackend {
public:
    virtual ~SnapshotBackend() = default;
    virtual std::string name() const = 0;    // "btrfs", "reflink", "lvm-thin", "lvm", "hardlink", "none"
    virtual std::string reason() const = 0;  // why it was chosen, for the summary
    virtual Layout layout() const = 0;
    virtual std::string file_system_uuid() const = 0;
    virtual std::string describe_location() const = 0;  // where its snapshots are kept
    // Whether a snapshot shows one instant also when nobody is kept from writing. Of one that doesn't, taken under a hold that was broken,
    // nothing can be said: the caller removes it, and fails.
    virtual bool atomic() const = 0;
    // All that can be done before create(), so that this is as short as it can be: it looks again at what the preflight found, and flushes.
    // It may take long. create() does it itself where it wasn't done since the last one.
    virtual void prepare() = 0;
    // Why what has changed can't be told from two snapshots; empty if it can. Where it can't, a backup keeps none for the next one.
    virtual std::string why_no_changes() const { return ""; }
    bool tells_changes() const { return why_no_changes().empty(); }
    virtual std::unique_ptr<Snapshot> create(const std::string& name, bool temporary) = 0;
    // The snapshot of that name that a backup took, if it is there and still proves itself to be what the backup was drained from, and if
    // the changes since can be told from it; otherwise nullptr. Kept unless it is removed.
    virtual std::unique_ptr<Snapshot> find(const std::string& name, const SnapshotProof& proof) = 0;
    // Why find() has none of that name, as the end of a sentence that begins with the snapshot. Empty if nothing of that name is there.
    virtual std::string flaw_of(const std::string& name, const SnapshotProof& proof) = 0;
    // Where a backup's snapshot of that name is looked for; empty where there are none.
    virtual std::string path_of(const std::string& name) const = 0;
    // Whether the node directory has become what it is from what that snapshot shows by changes alone, as far as can be proved. Not if it
    // was replaced since by what is older, a clone of an earlier snapshot say: the dates of what lies there would tell of no change then.
    virtual bool precedes(const Snapshot& snapshot) const = 0;
    // Of snapshots with files() whose place doesn't prove anything: what of their storage is the same in both. nullptr of all others.
    // `now`: nullptr: the node directory as it is. Error::failed if it can't be told: then contents are to be compared.
    virtual std::shared_ptr<const SameBlocks> compare_blocks(const Snapshot& /*earlier*/, const Snapshot* /*now*/) { return nullptr; }
    // Removes snapshots that backups have kept here, and nobody uses, where there is so little room left that they would come to harm the
    // daemon. Tells which and why, as a sentence; empty if there was nothing to do.
    virtual std::string make_room() { return ""; }
    virtual std::vector<SnapshotEntry> list() = 0;
    // Error::refused if there is none of that name, or if it is in use.
    virtual void remove(const std::string& name) = 0;
    virtual HeldSpace held_space(const SnapshotEntry& entry) = 0;
    // Removes a backup's snapshot, durably; false if it is in use, or gone.
    virtual bool drop(const SnapshotEntry& entry) = 0;
    // Until the space of all that was dropped has come free.
    virtual void wait_for_space() = 0;
    // Of a dead backup, if there is one. May be called again, also to make an earlier removal durable.
    virtual void remove_temporary(const std::string& name) = 0;
    // How the node directory, or what `of` shows of it if that is given, came from what `earlier` shows; as precedes() does, but knows of
    // forks too.
    virtual Descent descent(const Snapshot& earlier, [[maybe_unused]] const Snapshot* of) const { return {precedes(earlier)}; }
};

struct BackendOptions {
    std::string kind = "auto";         // auto, btrfs, reflink, lvm-thin, lvm, hardlink, none
    std::string snapshot_directory;    // --snapshot-dir, empty: the documented place
    bool must_snapshot = false;        // refuse storage without snapshots, also where `auto` would read the directory itself
    bool must_last = false;            // refuse snapshots that can't be kept when the program ends
    bool accept_inconsistent = false;  // with none, reflink and hardlink: a directory that is in use
    // Patterns, as for ExcludeRules: files that are never written to again once they are closed. Without such there is no hardlink.
    std::vector<std::string> immutable;
    // Somebody keeps the writers from writing while create() runs, so that a backend whose create() takes longer than an instant need not
    // refuse a directory that is in use. Whether it was so is for that somebody to find out: consistency() doesn't tell.
    bool held = false;
    std::int64_t longest_hold_ns = 0;  // of it: when it is over there is no use in going on; 0: isn't known
    std::uint64_t snapshot_bytes = 0;  // of an LVM snapshot: its room for what is overwritten while it is there; 0: see the guide
    unsigned workers = 0;              // that clone, or copy; 0: one per CPU, up to four
    bool preflight = true;             // false: to list and remove only; what a snapshot would miss, or hold too much, isn't looked for
};
const std::vector<std::string>& snapshot_kinds();  // but auto
std::unique_ptr<SnapshotBackend> choose_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                const BackendOptions& options);
// Removes a snapshot that a dead backup left, by the path in its session record; as durably as the rest. False if it is out of reach: its
// file system isn't mounted. Nothing is done if it isn't one of ours any more: only read-only subvolumes with the name of a snapshot of
// nodesnap's, trees of files that have its record, and logical volumes with its tag are ever removed.
bool remove_left_snapshot(const std::string& backend, const std::string& path);
// Removes, durably, the snapshot that a backup proves, wherever on its file system it lies by now: that of a node directory that was moved
// isn't where its backend looks. Empty if it has gone, or is an operator's; otherwise why it stays, in a few words.
std::string remove_snapshot_elsewhere(const SnapshotProof& proof);

}  // namespace nodesnap
