// Drain: reads a frozen node directory and stores it as packs and a tree. See docs/design.md, "The drain".
//
// One walk finds names, one worker per core reads and stores data, each with its own ring, buffers and open pack; they share one queue of
// work, two throttles and the catalog. When run() returns, all packs are durable; nothing refers to them yet.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/progress.h"
#include "io/target/target.h"
#include "io/throttle.h"
#include "platform/error.h"
#include "snapshot/exclude.h"
#include "snapshot/report.h"
#include "snapshot/repository/manifest.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

class CloneIndex;
class LiveStamp;
class SameBlocks;
class SnapshotFiles;

inline constexpr unsigned kDefaultWorkers = 4;
inline constexpr unsigned kMaximumWorkers = 8;  // of four buffers each

// How much goes into one pack and one metadata node. Smaller ones make several packs and high trees of little data, for tests.
struct DrainSizes {
    std::uint64_t data_pack_bytes = kDataPackBytes;  // at least kSegmentLimit
    std::size_t entries_per_node = kEntriesPerNodeLimit;
};

struct DrainOptions {
    unsigned workers = 0;  // 0: one per CPU or stream of the target, up to kDefaultWorkers; at most kMaximumWorkers
    bool force_blocking = false;
    bool skip_unreadable = false;
    bool source_is_live = false;    // not a snapshot: whatever changes while it is read is an error
    bool tolerate_changes = false;  // but one that the operator has accepted
    // Of a live source that somebody looks at again: whatever changes meanwhile, or can't be read since it did, is left to that look, and
    // not told.
    bool is_warm_pass = false;
    // Of a live source that is kept from changing until this returns: called when all is read, by one of the workers, before anything is
    // made durable. What it throws ends the drain. None: nobody waits for that.
    std::function<void()> all_is_read = {};
    std::int64_t read_until_ns = 0;  // by the monotonic clock, 0: as long as it takes. Error::failed when it is over before all is read
    // Asked all the time; throws when what is read of the source is of no use any more. Any thread.
    std::function<void()> check_source = {};
    bool stores_whole_blocks = false;  // where contents are compared: no stored data is read to find which page of a block differs
    // A tree of clones, each with its CloneOrigin, and where they are: what they are clones of is drained. nullptr: it is no such.
    const CloneIndex* clones = nullptr;
    const SnapshotFiles* files = nullptr;  // of the source, for a parent with `files` too
    std::uint64_t limit_bytes_per_second = 0;
    std::shared_ptr<const Throttle::Cap> cap = {};  // besides that limit: one that may be changed while all is drained
    std::string scratch_directory;
    DrainSizes sizes;
    bool audits_everything = false;  // not a sample only
    std::uint32_t first_pack = 0;    // number of the first pack: higher for a second drain of one session
    // Packs get logs, from which another drain of the same snapshot can go on. Called before the first log is stored; any thread. None: no
    // logs.
    std::function<void()> begin_journal = {};
    const SessionRecord* resumed = nullptr;  // goes on from the logs of this session
    std::chrono::nanoseconds checkpoint_interval = std::chrono::seconds(10);
    std::function<void()> still_ours = [] {};  // asked before a pack becomes visible; throws when the lease is lost; any thread
};

// The backup that a drain builds on: what both have in common is referred to.
struct DrainParent {
    const Manifest& backup;  // whole: not `damaged`
    // The node directory in its snapshot: then only what differs is read. Both snapshots must be of one btrfs subvolume, or of clones of
    // one, and proved to be what the backups say; on btrfs the node directory must be the same inode in both. -1 where there is none: all
    // is read, and contents are compared.
    int source;
    std::span<const PackId> distrusted;  // ascending: where contents are compared, what lies in these packs counts as changed
    bool same_file_system = true;        // as the source's: inode numbers mean the same. Always with a source
    // With a source: the node directory doesn't come from it, but both come from what this transaction was the last to change. 0: it does.
    std::uint64_t forked_at = 0;
    // Of its snapshot, proved to be what the backup says, where data that lies where it did is the same: that isn't read.
    const SnapshotFiles* files = nullptr;
    // With files, of snapshots that don't share storage by files: what of their device is the same in both. nullptr: all at the same place.
    const SameBlocks* blocks = nullptr;
    // Not with a source, nor files: its tree is what another pass over the same live directory has read after this was taken. What is
    // unchanged since is taken over without being read.
    const LiveStamp* stamp = nullptr;
    // Without all of these: what its records say of files that are never written to again, and that nobody could write to when it was made,
    // tells that they haven't changed since. See docs/design.md, "Snapshots without names".
    bool records_tell = false;
    bool tells_changes() const { return source >= 0; }
    bool is_compared() const { return source < 0 && files == nullptr; }
};

struct DrainResult {
    TreeRoot tree;
    std::uint64_t root_ino = 0;
    bool damaged = false;
    bool changed_meanwhile = false;       // a live source, whose changes were tolerated
    Manifest::Totals totals;              // stored_bytes: of this drain; data_bytes etc.: of the whole tree
    std::uint64_t new_bytes = 0;          // of file data that isn't referred to
    std::uint64_t read_files = 0;         // that were opened
    std::chrono::nanoseconds reading{0};  // from when it began until nothing more was read of the source
    std::vector<PackId> packs;
    std::uint32_t next_pack = 0;  // DrainOptions::first_pack for another one of the same session
    std::string io_fallback_reason;
    std::uint64_t resumed_bytes = 0;  // that an earlier drain of the snapshot had stored; in `totals` too
    std::uint64_t audited_bytes = 0;
    std::string lie;  // where a sample showed that the change list was wrong: then nothing of this may be published
};

// A directory can't be listed, and which of the files that an earlier backup or drain knows of are still named below it can't be told: only
// a drain that lists all the others, and takes over nothing else, comes out right.
class UnlistedDirectory : public Error {
public:
    explicit UnlistedDirectory(const Error& error) : Error(error) {}
};

// `parent`: nullptr to read everything. Throws UnlistedDirectory with skip_unreadable only, and never where neither `parent` tells changes
// nor a session is resumed.
DrainResult run_drain(int source, const Repository& repository, const SessionId& session, const ExcludeRules& excludes,
                      const DrainParent* parent, const DrainOptions& options, Progress& progress, Report& report);

}  // namespace nodesnap
