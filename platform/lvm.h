// LVM, through its own programs (lvs, lvcreate, lvchange, lvrename, lvremove of lvm2, and dmsetup): logical volumes, and snapshots of them.
//
// All that changes something is durable when it returns, and runs to its end however long that takes: a program of LVM that is killed may
// leave a volume suspended. To take a snapshot suspends the volume, and freezes the file system on it, for some ten milliseconds; whoever
// writes there meanwhile waits.
//
// Errors: Error::failed with the program, what it said, and the remedy. Threads: any. Privileges: root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nodesnap::lvm {

struct Volume {
    std::string group;       // "vg"
    std::string name;        // "data"
    std::string group_uuid;  // 32 characters, without dashes
    std::string uuid;        // as that
    std::string origin;      // of a snapshot: the name of what it is one of; empty where that is gone
    std::string pool;        // of a thin volume
    std::string attributes;  // lv_attr, see lvs(8)
    std::string device;      // "/dev/mapper/vg-data"
    std::vector<std::string> tags;
    std::uint64_t bytes = 0;
    std::uint64_t snapshot_bytes = 0;  // of a classic snapshot: its room for what is overwritten
    std::uint64_t chunk_bytes = 0;     // of that: what is kept of what is overwritten comes in such
    std::int64_t created_ns = 0;       // UTC, whole seconds
    std::uint64_t thin_id = 0;         // of a thin volume, in its pool
    std::uint64_t transaction = 0;     // of a thin volume: the pool's that made it
    std::uint64_t extent_bytes = 0;    // of the group
    std::uint64_t free_extents = 0;    // of the group

    std::string full_name() const { return group + "/" + name; }
    bool has_tag(const std::string& tag) const;
    bool is_thin() const;
    bool is_classic_snapshot() const;
    bool is_merging() const;  // a classic snapshot is being merged into it, or will be as soon as it is activated next
    bool is_open() const;     // mounted, say
    bool is_active() const;
    bool is_read_only() const;      // whenever it is activated
    bool skips_activation() const;  // LVM leaves it out when it activates all others
};

// What the kernel says of a block device.
struct VolumeId {
    std::string group_uuid;
    std::string uuid;
};
// nullopt if the device (as makedev()) is no logical volume. Needs neither privileges nor lvm2.
std::optional<VolumeId> volume_of_device(std::uint64_t device);

// All that this host sees, or those of one group, without the hidden ones. Empty if there is no such group.
std::vector<Volume> list_volumes(const std::string& group = "");

struct SnapshotRequest {
    std::string name;
    std::uint64_t extents = 0;      // of a classic one: its room
    std::uint64_t chunk_bytes = 0;  // as Volume's; 0: LVM chooses
    std::vector<std::string> tags;
};
// A classic snapshot, or one of a thin volume: these need no room of their own. Active when it returns.
void create_snapshot(const Volume& origin, const SnapshotRequest& request);
// Also of one that is in use, which goes on under the other name.
void rename_volume(const std::string& group, const std::string& from, const std::string& to);
// Fails if it is open.
void remove_volume(const std::string& full_name);
// In one step; empty ones are left out.
void change_tags(const Volume& volume, const std::string& added, const std::string& removed);
void change_tags(const std::vector<Volume>& volumes, const std::string& added, const std::string& removed);  // none: nothing is done

// How full a classic snapshot is.
struct SnapshotFill {
    std::uint64_t used_bytes = 0;
    std::uint64_t total_bytes = 0;
    std::uint64_t metadata_bytes = 0;  // of what is used
    bool invalid = false;              // it has overflowed, or failed: whatever is read of it gives an error
};
// nullopt if it isn't there, or no such snapshot.
std::optional<SnapshotFill> snapshot_fill(const Volume& snapshot);
// Of the kernel's line: "0 819200 snapshot 16/204800 16", "0 819200 snapshot Invalid".
std::optional<SnapshotFill> parse_snapshot_status(const std::string& line);
// Of lvs' report in JSON, with other lines before and behind it. Error::failed if there is none.
std::vector<Volume> parse_volumes(const std::string& text);

// As long as it lives, whatever changes something in this thread keeps that descriptor open, too, until it has ended, whether nodesnap is
// killed meanwhile or not. So a lock on it (flock) tells whether a change is still under way.
class KeptOpen {
public:
    explicit KeptOpen(int descriptor) noexcept;
    KeptOpen(const KeptOpen&) = delete;
    KeptOpen& operator=(const KeptOpen&) = delete;
    ~KeptOpen();

private:
    const int before_;
};

}  // namespace nodesnap::lvm
