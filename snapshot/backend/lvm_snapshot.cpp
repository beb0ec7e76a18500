#include "snapshot/backend/lvm_snapshot.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <string_view>
#include <utility>

#include "io/checksum.h"
#include "io/units.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/lvm_thin.h"
#include "snapshot/backend/lvm_metadata.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {
namespace {

constexpr std::string_view kTagOfTime = "nodesnap.taken.";

// The UUIDs of group and volume are longer than ours.
Uuid identity_of(const lvm::Volume& volume) {
    const std::string both = volume.group_uuid + volume.uuid;
    const Checksum checksum = Hasher(0)(std::as_bytes(std::span(both)));
    Uuid identity;
    for (std::size_t i = 0; i < identity.bytes.size(); ++i) {
        identity.bytes[i] = static_cast<std::uint8_t>((i < 8 ? checksum.low : checksum.high) >> (8 * (i % 8)));
    }
    return identity;
}

}  // namespace

const char* name_of(LvmKind kind) noexcept {
    return kind == LvmKind::kThin ? "lvm-thin" : "lvm";
}

std::string tag_of_origin(const std::string& uuid) {
    return "nodesnap.of." + uuid;
}

std::string tag_of_time(std::uint64_t taken_s) {
    return std::string(kTagOfTime) + std::to_string(taken_s);
}

std::int64_t taken_at(const lvm::Volume& snapshot) {
    constexpr std::int64_t kSecondNs = 1'000'000'000;
    for (const std::string& tag : snapshot.tags) {
        std::int64_t taken_s = 0;
        if (tag.starts_with(kTagOfTime) &&
            std::from_chars(tag.data() + kTagOfTime.size(), tag.data() + tag.size(), taken_s).ec == std::errc()) {
            return taken_s * kSecondNs;
        }
    }
    return snapshot.created_ns;
}

bool is_own_tag(const std::string& tag) {
    return tag == kVolumeTag || tag.starts_with(std::string(kVolumeTag) + ".");
}

bool is_snapshot_of(const lvm::Volume& snapshot, const lvm::Volume& origin) {
    return snapshot.group_uuid == origin.group_uuid && (snapshot.origin == origin.name || snapshot.has_tag(tag_of_origin(origin.uuid)));
}

std::string path_of_volume(const std::string& group, const std::string& name) {
    return kVolumeScheme + group + "/" + name;
}

std::optional<lvm::Volume> find_own_volume(const std::string& group, const std::string& name) {
    for (lvm::Volume& volume : lvm::list_volumes(group)) {
        if (volume.name == name && volume.has_tag(kVolumeTag)) {
            return std::move(volume);
        }
    }
    return std::nullopt;
}

void remove_own_volume(const lvm::Volume& volume) {
    if (has_metadata_mark(volume)) {
        release_left_metadata(pool_of(volume), {volume});  // nobody else would know whose they are
    }
    lvm::remove_volume(volume.full_name());
    fault::step("snapshot.deleted");
}

std::string flaw_of_snapshot(const lvm::Volume& snapshot) {
    const auto fill = lvm::snapshot_fill(snapshot);
    if (!fill) {
        return "isn't there any more, or isn't active";
    }
    if (fill->invalid) {
        return "has overflowed, and is invalid: more was overwritten since it was taken than it has room for";
    }
    if (fill->used_bytes * 100 >= fill->total_bytes * kFullPercent) {
        return "is about to overflow: " + human_bytes(fill->used_bytes) + " of its " + human_bytes(fill->total_bytes) +
               " hold what was overwritten since it was taken";
    }
    return "";
}

lvm::Volume pool_of(const lvm::Volume& thin) {
    lvm::Volume pool;
    pool.group = thin.group;
    pool.group_uuid = thin.group_uuid;
    pool.name = thin.pool;
    return pool;
}

std::string flaw_of_pool(const lvm::Volume& pool, unsigned percent) {
    const lvm::PoolFill fill = lvm::pool_fill(pool);
    if (!fill.works) {
        return "lies in the thin pool " + pool.full_name() + ", which isn't in order (read-only, out of space, or in need of a check)";
    }
    if (fill.data_percent() >= percent || fill.metadata_percent() >= percent) {
        return "lies in the thin pool " + pool.full_name() + ", of whose data " + std::to_string(fill.data_percent()) +
               " % are used, and of whose metadata " + std::to_string(fill.metadata_percent()) +
               " %: were it to become full, its volumes could not be written to any more";
    }
    return "";
}

SnapshotProof proof_of(LvmKind kind, const LvmPlace& place, const lvm::Volume& volume) {
    const std::string path = path_of_volume(volume.group, volume.name);
    return {name_of(kind), path, place.file_system_uuid(), identity_of(volume), volume.thin_id, volume.transaction, true};
}

bool is_volume_of(const SnapshotProof& proof, const lvm::Volume& volume) {
    return proof.subvolume_uuid == identity_of(volume) && proof.otransid == volume.thin_id && proof.ctransid == volume.transaction;
}

LvmSnapshot::LvmSnapshot(LvmKind kind, std::shared_ptr<const LvmPlace> place, std::string on_disk, SnapshotEntry entry, bool kept)
    : kind_(kind), place_(std::move(place)), on_disk_(std::move(on_disk)), entry_(std::move(entry)), kept_(kept) {}

LvmSnapshot::~LvmSnapshot() {
    try {
        if (!kept_) {
            remove();
        } else if (kind_ == LvmKind::kThin && entry_.temporary && !removed_) {
            close();
            lvm::deactivate(volume_);
        }
    } catch (const std::exception&) {
        // Announced in the header: the next backup removes what is left.
    }
}

SnapshotProof LvmSnapshot::proof() const {
    SnapshotProof proof = proof_of(kind_, *place_, volume_);
    if (kind_ == LvmKind::kThin) {
        const auto now = find_own_volume(place_->volume().group, on_disk_);
        proof.read_only = now && now->is_read_only() && proof_of(kind_, *place_, *now) == proof;
    }
    return proof;
}

bool LvmSnapshot::may_stay() const {
    return kind_ == LvmKind::kClassic || flaw_of_pool(pool_of(volume_), kFullPool).empty();
}

void LvmSnapshot::taken(std::int64_t taken_ns, std::int64_t duration_ns, Consistency consistency) {
    entry_.created_ns = taken_ns;
    duration_ns_ = duration_ns;
    consistency_ = consistency;
}

lvm::Volume LvmSnapshot::find() const {
    auto volume = find_own_volume(place_->volume().group, on_disk_);
    if (!volume) {
        throw Error::failed("the snapshot " + entry_.path + " was removed by another program as soon as it was taken", "try again");
    }
    return std::move(*volume);
}

void LvmSnapshot::open(lvm::Volume volume) {
    volume_ = std::move(volume);
    mounted_ = place_->mount(volume_);
    root_ = place_->open_node(mounted_.get());
    if (kind_ == LvmKind::kThin) {
        files_.emplace(root_.get(), place_->type());  // that of the mount itself opens nothing
    }
    if (kind_ == LvmKind::kThin) {
        // Of its pool what is left when a snapshot is taken is more, so that this is a pool that fills while it is read.
        const auto pool = pool_of(volume_);
        watch_.emplace([pool] { return flaw_of_pool(pool, kFullPercent); }, volume_.full_name(),
                       "extend the pool (lvextend), its metadata too (--poolmetadatasize), or remove volumes of it");
        return;
    }
    const std::string of_group = "out of the free extents of the volume group " + volume_.group + " (`vgs` tells how many)";
    watch_.emplace([volume = volume_] { return flaw_of_snapshot(volume); }, volume_.full_name(),
                   "give it more room with --snapshot-size, " + of_group + "; or back up when less is written, or faster");
}

void LvmSnapshot::settle() {
    if (root_) {
        return;
    }
    lvm::Volume volume = find();
    if (kind_ == LvmKind::kThin) {
        lvm::activate(volume);
        place_->replay_log(volume);
        lvm::set_read_only(volume);
    }
    open(std::move(volume));
    place_->check_node(root_.get());
    fault::step("snapshot.mounted");
}

void LvmSnapshot::check(bool now) {
    if (watch_) {
        watch_->check(now);
    }
}

void LvmSnapshot::keep_for_operator() {
    kept_ = true;
    const std::string on_disk = without_temporary(on_disk_);
    lvm::rename_volume(place_->volume().group, on_disk_, on_disk);
    entry_.path = path_of_volume(place_->volume().group, on_disk);
    entry_.temporary = false;
    on_disk_ = on_disk;
}

void LvmSnapshot::close() {
    watch_.reset();
    files_.reset();
    root_.reset();
    mounted_.reset();
}

void LvmSnapshot::remove() {
    if (removed_) {
        return;
    }
    close();
    if (const auto volume = find_own_volume(place_->volume().group, on_disk_)) {
        remove_own_volume(*volume);
    }
    removed_ = true;
    kept_ = true;
}

}  // namespace nodesnap
