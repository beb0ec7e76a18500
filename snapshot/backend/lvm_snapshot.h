// LvmSnapshot: one snapshot of a logical volume, in use: mounted where nobody sees it, and watched. See docs/design.md, "Snapshots of
// logical volumes".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/lvm.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backend/lvm_place.h"
#include "snapshot/backend/lvm_watch.h"
#include "snapshot/backend/numbered_files.h"

namespace nodesnap {

enum class LvmKind { kClassic, kThin };
const char* name_of(LvmKind kind) noexcept;  // "lvm", "lvm-thin"

inline constexpr const char* kVolumeScheme = "lvm:";
inline constexpr const char* kVolumeTag = "nodesnap";  // of each volume that is ours; nobody else's is ever touched

// Of a snapshot of ours: whose it is, where LVM doesn't tell as its origin. A rollback puts another volume in the place of a thin one.
std::string tag_of_origin(const std::string& uuid);
// Of a snapshot of ours that was made anew of what it had been: when it was taken, in seconds since 1970.
std::string tag_of_time(std::uint64_t taken_s);
// When it was taken: as that tag tells, or LVM does.
std::int64_t taken_at(const lvm::Volume& snapshot);
bool is_own_tag(const std::string& tag);  // that we have given, whatever for
// As LVM tells, or that tag does.
bool is_snapshot_of(const lvm::Volume& snapshot, const lvm::Volume& origin);
std::string path_of_volume(const std::string& group, const std::string& name);  // "lvm:vg/name"
// One of ours.
std::optional<lvm::Volume> find_own_volume(const std::string& group, const std::string& name);
void remove_own_volume(const lvm::Volume& volume);
// Why nothing can be read of a snapshot (any more), or shouldn't, as the end of a sentence that begins with it; empty if all can.
std::string flaw_of_snapshot(const lvm::Volume& snapshot);
inline constexpr unsigned kFullPercent = 95;   // of a snapshot's room, or a pool: nothing more is read of it from there on
lvm::Volume pool_of(const lvm::Volume& thin);  // its names; nothing is looked at
inline constexpr unsigned kFullPool = 80;      // percent of a thin pool's data or metadata: no snapshot is taken, or kept, from there on
// What there must be left of a thin pool; as flaw_of_snapshot().
std::string flaw_of_pool(const lvm::Volume& pool, unsigned percent);
// Whether that proof was one of that volume, as far as LVM tells; its path apart.
bool is_volume_of(const SnapshotProof& proof, const lvm::Volume& volume);
SnapshotProof proof_of(LvmKind kind, const LvmPlace& place, const lvm::Volume& volume);

class LvmSnapshot : public Snapshot {
public:
    // From here on the snapshot on storage belongs to this object, unless it is `kept`. A thin one that a backup keeps is inactive
    // afterwards.
    LvmSnapshot(LvmKind kind, std::shared_ptr<const LvmPlace> place, std::string on_disk, SnapshotEntry entry, bool kept);
    ~LvmSnapshot() override;

    void taken(std::int64_t taken_ns, std::int64_t duration_ns, Consistency consistency);
    // Of one that was settled when it was made, and is active.
    void open(lvm::Volume volume);

    int root() const override { return root_.get(); }
    const SnapshotEntry& entry() const override { return entry_; }
    const SnapshotFiles* files() const override { return files_ ? &*files_ : nullptr; }
    // Of a thin one as it is now.
    SnapshotProof proof() const override;
    std::int64_t taken_ns() const override { return entry_.created_ns; }
    std::int64_t duration_ns() const override { return duration_ns_; }
    Consistency consistency() const override { return consistency_; }
    void check(bool now) override;
    // The log of the file system in the snapshot is replayed, which may take long.
    void settle() override;
    bool may_stay() const override;
    void keep() noexcept override { kept_ = true; }
    void keep_for_operator() override;
    void remove() override;

private:
    lvm::Volume find() const;
    void close();

    const LvmKind kind_;
    std::shared_ptr<const LvmPlace> place_;
    std::string on_disk_;
    SnapshotEntry entry_;
    lvm::Volume volume_;
    FileDescriptor mounted_;              // whole
    FileDescriptor root_;                 // the node directory in it
    std::optional<NumberedFiles> files_;  // of a thin one
    std::optional<LvmWatch> watch_;
    std::int64_t duration_ns_ = 0;
    Consistency consistency_ = Consistency::kCrashConsistent;
    bool kept_;
    bool removed_ = false;
};

}  // namespace nodesnap
