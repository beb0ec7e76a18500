#include "snapshot/backend/lvm_merge_room.h"

#include <algorithm>

#include "io/units.h"
#include "platform/error.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kUsualChunkBytes = 4096;
constexpr std::uint64_t kExceptionBytes = 16;  // in the table of what was copied
constexpr const char* kDelta = "restore a backup with nodesnap restore --delta, which changes only what differs";

std::uint64_t rounded_up(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

std::uint64_t chunk_of(const lvm::Volume& snapshot) {
    return snapshot.chunk_bytes != 0 ? snapshot.chunk_bytes : kUsualChunkBytes;
}

// So that with so much in it nobody calls it full.
std::uint64_t size_for(std::uint64_t used_bytes) {
    return used_bytes / kFullPercent * 100 + 100;
}

std::uint64_t copies_of(const lvm::Volume& volume, const lvm::Volume& merged, const lvm::SnapshotFill& fill, std::uint64_t chunk_bytes) {
    return room_for_copies(fill, chunk_of(merged), chunk_bytes, volume.bytes);
}

}  // namespace

std::uint64_t room_for_copies(const lvm::SnapshotFill& merged, std::uint64_t merged_chunk_bytes, std::uint64_t chunk_bytes,
                              std::uint64_t volume_bytes) {
    const std::uint64_t overwritten = merged.used_bytes - std::min(merged.metadata_bytes, merged.used_bytes);
    // A chunk of the one lies in one of the other, or is several of them.
    const std::uint64_t factor = std::max<std::uint64_t>(chunk_bytes / merged_chunk_bytes, 1);
    const std::uint64_t data = rounded_up(std::min(overwritten * factor, volume_bytes), chunk_bytes);
    const std::uint64_t table = rounded_up(data / chunk_bytes * kExceptionBytes, chunk_bytes);
    return data + table + 2 * chunk_bytes;  // what it begins with, and the next part of the table
}

lvm::SnapshotFill fill_of_merged(const lvm::Volume& snapshot) {
    const auto fill = lvm::snapshot_fill(snapshot);
    if (!fill || fill->invalid) {
        throw Error::refused("the snapshot " + snapshot.full_name() + (fill ? " has overflowed, and is invalid" : " isn't active"),
                             fill ? std::string(kDelta) : "activate it with lvchange -ay " + snapshot.full_name());
    }
    return *fill;
}

void refuse_overflows(const lvm::Volume& volume, const lvm::Volume& merged, const std::vector<lvm::Volume>& group) {
    const lvm::SnapshotFill fill = fill_of_merged(merged);
    std::string full, extend;
    for (const lvm::Volume& other : group) {
        if (other.uuid == merged.uuid || !other.is_classic_snapshot() || other.origin != volume.name) {
            continue;
        }
        const auto has = lvm::snapshot_fill(other);
        if (!has || has->invalid) {
            continue;  // nothing to be lost
        }
        const std::uint64_t size = size_for(has->used_bytes + copies_of(volume, merged, fill, chunk_of(other)));
        if (size > has->total_bytes) {
            const std::uint64_t missing = rounded_up(size - has->total_bytes, volume.extent_bytes);
            full += (full.empty() ? "" : ", ") + other.full_name() + " (" + human_bytes(missing) + " short)";
            extend += (extend.empty() ? "" : "; ") + std::string("lvextend -L +") + std::to_string(missing) + "b " + other.full_name();
        }
    }
    if (!full.empty()) {
        throw Error::refused("other snapshots of the volume " + volume.full_name() +
                                 " might overflow, since what the merge overwrites is copied to each: " + full,
                             "give them room (" + extend + "), or remove those that nobody needs (nodesnap snapshot remove, lvremove)");
    }
}

std::uint64_t extents_of_kept(const lvm::Volume& volume, const lvm::Volume& merged) {
    const std::uint64_t extent = volume.extent_bytes;
    const std::uint64_t copies = copies_of(volume, merged, fill_of_merged(merged), chunk_of(merged));
    const std::uint64_t needed = rounded_up(size_for(copies), extent) / extent;
    if (needed > volume.free_extents) {
        throw Error::refused("what is there now is to be kept as a snapshot, which needs up to " + human_bytes(needed * extent) +
                                 " in the volume group " + volume.group + "; it has " + human_bytes(volume.free_extents * extent) + " free",
                             std::string("add a physical volume with vgextend, or remove a volume that nobody needs; or ") + kDelta);
    }
    // More than all of the volume, and the table of it, is never needed.
    const std::uint64_t all = volume.bytes / extent;
    return std::max(needed, std::min(needed + (volume.free_extents - needed) / 2, all + all / 100 + 1));
}

}  // namespace nodesnap
