#include "snapshot/backend/lvm.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "io/units.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "platform/lvm_thin.h"
#include "platform/processes.h"
#include "snapshot/backend/lvm_blocks.h"
#include "snapshot/backend/lvm_metadata.h"
#include "snapshot/backend/lvm_place.h"
#include "snapshot/backend/lvm_snapshot.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {
namespace {

class LvmBackend : public SnapshotBackend {
public:
    LvmBackend(LvmKind kind, std::shared_ptr<const LvmPlace> place, ExcludeRules excludes, const BackendOptions& options,
               std::string reason)
        : kind_(kind),
          place_(std::move(place)),
          excludes_(std::move(excludes)),
          held_(options.held),
          snapshot_bytes_(options.snapshot_bytes),
          naming_(place_->node_directory(), NameStyle::kVolume),
          reason_(std::move(reason)) {}

    std::string name() const override { return name_of(kind_); }
    std::string reason() const override { return reason_; }
    Layout layout() const override { return place_->layout(); }
    std::string file_system_uuid() const override { return place_->file_system_uuid(); }
    std::string describe_location() const override {
        return "the volume group " + group() + ", as snapshots of " + place_->volume().full_name();
    }
    bool atomic() const override { return true; }
    std::string why_no_changes() const override {
        if (kind_ == LvmKind::kClassic) {
            return "snapshots of this kind (lvm) don't tell what has changed";
        }
        return lvm::has_thin_delta() ? "" : "thin_delta, which tells what has changed, isn't installed (thin-provisioning-tools)";
    }

    // What a snapshot would have for room, none of its own for a thin one. Error::refused where that is too little, or too little is left
    // in the pool. `with_left`: what backups have left here comes free first.
    std::uint64_t extents_for(const std::vector<lvm::Volume>& volumes, bool with_left) const {
        const lvm::Volume& origin = place_->volume();
        if (kind_ == LvmKind::kThin) {
            const bool has_left = std::any_of(volumes.begin(), volumes.end(), [this](const lvm::Volume& volume) { return may_go(volume); });
            if (!with_left || !has_left) {
                refuse_full_pool();
            }
            return 0;
        }
        if (origin.is_merging()) {
            throw Error::refused("a snapshot is being merged into " + origin.full_name() + ", and LVM takes no other one meanwhile",
                                 "wait until `lvs` shows its attributes with a small o, or none, first");
        }
        std::uint64_t free = 0;
        std::uint64_t left = 0;
        for (const lvm::Volume& volume : volumes) {
            free = volume.free_extents;
            const auto name = is_ours(volume) ? naming_.parse(volume.name) : std::nullopt;
            left += name && name->temporary ? volume.snapshot_bytes / origin.extent_bytes : 0;
        }
        free += with_left ? left : 0;
        if (free == 0) {
            throw Error::refused("the volume group " + group() + " has no free extents: a snapshot of " + origin.full_name() +
                                     " would have no room for what is overwritten while it is there",
                                 "add a physical volume with vgextend, or remove a volume of it that nobody needs");
        }
        if (snapshot_bytes_ == 0) {
            // Half of what is free leaves as much to others. More than all of the volume, and the table of it, is never needed.
            const std::uint64_t all = origin.bytes / origin.extent_bytes;
            return std::min(std::max<std::uint64_t>(free / 2, 1), all + all / 100 + 1);
        }
        const std::uint64_t wanted = (snapshot_bytes_ + origin.extent_bytes - 1) / origin.extent_bytes;
        if (wanted > free) {
            throw Error::refused("--snapshot-size " + human_bytes(snapshot_bytes_) + " is more than the volume group " + group() +
                                     " has free, " + human_bytes(free * origin.extent_bytes),
                                 "name less, or add a physical volume with vgextend");
        }
        return wanted;
    }

    void prepare() override {
        // What the preflight found may have changed since.
        refuse_nested(place_->node_directory(), excludes_);
        volumes_ = listed();
        extents_ = extents_for(volumes_, false);
        prepared_ = true;
        used_before_ = !held_ && in_use();
        // The first flush writes what has gathered, the second the little that came meanwhile: so that freezing the file system, as LVM
        // does, waits for next to nothing.
        const FileDescriptor node = open_path(place_->node_directory(), O_RDONLY | O_DIRECTORY);
        sync_file_system(node.get(), place_->node_directory());
        sync_file_system(node.get(), place_->node_directory());
    }

    std::unique_ptr<Snapshot> create(const std::string& name, bool temporary) override {
        const std::string on_disk = naming_.on_disk(name, temporary);
        if (!std::exchange(prepared_, false)) {
            prepare();
            prepared_ = false;
        }
        for (const bool other : {false, true}) {
            const std::string taken_name = naming_.on_disk(name, other);
            if (std::any_of(volumes_.begin(), volumes_.end(), [&](const lvm::Volume& volume) { return volume.name == taken_name; })) {
                throw Error::refused("a snapshot named \"" + name + "\" of " + place_->node_directory() + " exists already",
                                     "choose another name, or remove it with nodesnap snapshot remove");
            }
        }
        const std::int64_t taken_ns = utc_now_ns();
        const std::int64_t begun_ns = monotonic_ns();
        lvm::create_snapshot(place_->volume(), {on_disk, extents_, 0, {kVolumeTag}});
        const std::int64_t duration_ns = monotonic_ns() - begun_ns;
        auto snapshot = std::make_unique<LvmSnapshot>(kind_, place_, on_disk,
                                                      SnapshotEntry{name, path_of_volume(group(), on_disk), 0, temporary}, false);
        fault::step("snapshot.taken");
        // Looking through all processes takes time that nobody should be held for.
        const bool used = held_ || used_before_ || in_use();
        snapshot->taken(taken_ns, duration_ns, used ? Consistency::kCrashConsistent : Consistency::kPointInTime);
        if (!held_) {
            snapshot->settle();
        }
        return snapshot;
    }

    std::unique_ptr<Snapshot> find(const std::string& name, const SnapshotProof& proof) override {
        if (proof.backend != name_of(kind_) || proof.file_system_uuid != place_->file_system_uuid()) {
            return nullptr;
        }
        for (const lvm::Volume& volume : own()) {
            const auto parsed = naming_.parse(volume.name);
            if (!parsed || parsed->given != name || !is_volume_of(proof, volume) || !proof.read_only || !flaw_of_own(volume).empty()) {
                continue;
            }
            auto snapshot = std::make_unique<LvmSnapshot>(kind_, place_, volume.name, entry_of(volume, *parsed), true);
            if (!volume.is_active()) {
                lvm::activate(volume);
            }
            snapshot->open(volume);
            return snapshot;
        }
        return nullptr;
    }

    std::string flaw_of(const std::string& name, const SnapshotProof& proof) override {
        for (const lvm::Volume& volume : own()) {
            const auto parsed = naming_.parse(volume.name);
            if (parsed && parsed->given == name) {
                return is_volume_of(proof, volume) ? flaw_of_own(volume) : "was replaced by another one";
            }
        }
        return "";
    }

    std::string path_of(const std::string& name) const override { return path_of_volume(group(), naming_.on_disk(name, true)); }
    // What was made from where doesn't matter: every file is looked at.
    bool precedes(const Snapshot&) const override { return true; }

    std::shared_ptr<const SameBlocks> compare_blocks(const Snapshot& earlier, const Snapshot* now) override {
        if (kind_ == LvmKind::kClassic) {
            return nullptr;
        }
        const std::vector<lvm::Volume> volumes = listed();
        const lvm::Volume& left = volume_at(volumes, earlier.entry().path);
        const lvm::Volume& right = volume_at(volumes, now != nullptr ? now->entry().path : path_of_volume(group(), place_->volume().name));
        if (left.pool != right.pool) {
            throw Error::failed(left.full_name() + " and " + right.full_name() + " lie in different thin pools");
        }
        return common_blocks(pool_of(left), left, right);
    }

    std::string make_room() override {
        const auto flaw = [this] { return flaw_of_pool(pool_of(place_->volume()), kFullPool); };
        const std::string why = kind_ == LvmKind::kThin ? flaw() : "";
        std::string dropped;
        for (const SnapshotEntry& entry : why.empty() ? std::vector<SnapshotEntry>() : list()) {
            if (entry.temporary && drop(entry)) {
                dropped += (dropped.empty() ? "" : ", ") + entry.path;
                if (flaw().empty()) {
                    break;
                }
            }
        }
        return dropped.empty() ? "" : "the snapshot of an earlier backup was removed (" + dropped + "), since it " + why;
    }

    std::vector<SnapshotEntry> list() override {
        std::vector<SnapshotEntry> entries;
        for (const lvm::Volume& volume : own()) {
            if (const auto name = naming_.parse(volume.name)) {
                entries.push_back(entry_of(volume, *name));
            }
        }
        std::sort(entries.begin(), entries.end(), [](const SnapshotEntry& a, const SnapshotEntry& b) {
            return std::pair(a.created_ns, a.name) < std::pair(b.created_ns, b.name);
        });
        return entries;
    }

    void remove(const std::string& name) override {
        const std::vector<lvm::Volume> volumes = own();
        for (const bool temporary : {false, true}) {
            const std::string on_disk = naming_.on_disk(name, temporary);
            for (const lvm::Volume& volume : volumes) {
                if (volume.name == on_disk) {
                    if (volume.is_open()) {
                        throw Error::refused("the snapshot \"" + name + "\" of " + place_->node_directory() +
                                                 " is in use: a running backup reads it, or it is mounted",
                                             "wait until that backup has ended, or unmount it");
                    }
                    return remove_own_volume(volume);
                }
            }
        }
        throw Error::refused("there is no snapshot named \"" + name + "\" of " + place_->node_directory() + " in " + describe_location(),
                             "see nodesnap snapshot list");
    }

    HeldSpace held_space(const SnapshotEntry& entry) override {
        HeldSpace held;
        for (const lvm::Volume& volume : own()) {
            if (volume.name != naming_.on_disk(entry.name, entry.temporary)) {
                continue;
            }
            held.elsewhere_bytes =
                kind_ == LvmKind::kThin ? bytes_beside(pool_of(volume), volume, place_->volume()) : volume.snapshot_bytes;
        }
        return held;
    }

    bool drop(const SnapshotEntry& entry) override {
        const auto volume = find_own_volume(group(), naming_.on_disk(entry.name, true));
        if (!volume || !is_ours(*volume) || volume->is_open()) {
            return false;
        }
        remove_own_volume(*volume);
        return true;
    }

    void wait_for_space() override {}

    void remove_temporary(const std::string& name) override {
        const auto volume = find_own_volume(group(), naming_.on_disk(name, true));
        if (volume && is_ours(*volume)) {
            remove_own_volume(*volume);
        }
    }

private:
    void refuse_full_pool() const {
        const std::string flaw = flaw_of_pool(pool_of(place_->volume()), kFullPool);
        if (!flaw.empty()) {
            throw Error::refused("a snapshot of " + place_->volume().full_name() + " " + flaw,
                                 "extend the pool (lvextend), its metadata too (--poolmetadatasize), or remove volumes of it");
        }
    }

    // What is left where it lies, as flaw_of_snapshot().
    std::string flaw_of_own(const lvm::Volume& volume) const {
        if (kind_ == LvmKind::kClassic) {
            return flaw_of_snapshot(volume);
        }
        return volume.is_read_only() ? "" : "was made writable";
    }

    // Kept by a backup, or left.
    bool may_go(const lvm::Volume& volume) const {
        const auto name = is_ours(volume) ? naming_.parse(volume.name) : std::nullopt;
        return name && name->temporary && !volume.is_open();
    }

    static const lvm::Volume& volume_at(const std::vector<lvm::Volume>& volumes, const std::string& path) {
        for (const lvm::Volume& volume : volumes) {
            if (path_of_volume(volume.group, volume.name) == path) {
                return volume;
            }
        }
        throw Error::failed("lvs doesn't list " + path + " any more");
    }

    // All volumes of the group. What a killed program of ours has left reserved of the pool is released.
    std::vector<lvm::Volume> listed() const {
        std::vector<lvm::Volume> volumes = lvm::list_volumes(group());
        if (std::none_of(volumes.begin(), volumes.end(), has_metadata_mark)) {
            return volumes;
        }
        try {
            release_left_metadata(pool_of(place_->volume()), volumes);
        } catch (const Error&) {
            throw_if_interrupted();  // who needs them tells of it
        }
        return lvm::list_volumes(group());
    }

    const std::string& group() const { return place_->volume().group; }
    bool is_ours(const lvm::Volume& volume) const {
        const bool of_kind = kind_ == LvmKind::kThin ? volume.is_thin() : volume.is_classic_snapshot();
        return volume.has_tag(kVolumeTag) && of_kind && is_snapshot_of(volume, place_->volume());
    }
    std::vector<lvm::Volume> own() const {
        std::vector<lvm::Volume> volumes = listed();
        std::erase_if(volumes, [this](const lvm::Volume& volume) { return !is_ours(volume); });
        return volumes;
    }
    SnapshotEntry entry_of(const lvm::Volume& volume, const SnapshotName& name) const {
        // What was replaced has the time of the volume that it was.
        const std::int64_t created_ns = rolled_back_at(name.given).value_or(taken_at(volume));
        return {name.given, path_of_volume(group(), volume.name), created_ns, name.temporary, volume.is_open()};
    }

    // Whoever has anything of it open could have been about to write. Who can't be seen counts as a user.
    bool in_use() const {
        std::size_t hidden = 0;
        return !users_of_directory(place_->node_directory(), 1, &hidden).empty() || hidden != 0;
    }

    const LvmKind kind_;
    std::shared_ptr<const LvmPlace> place_;
    ExcludeRules excludes_;
    bool held_;
    std::uint64_t snapshot_bytes_;
    SnapshotNaming naming_;
    std::string reason_;
    std::vector<lvm::Volume> volumes_;  // of the group, from prepare() to create()
    std::uint64_t extents_ = 0;
    bool prepared_ = false;
    bool used_before_ = false;
};

}  // namespace

std::unique_ptr<SnapshotBackend> make_lvm_backend(std::optional<LvmKind> wanted, const std::string& node_directory,
                                                  const ExcludeRules& excludes, const BackendOptions& options, std::string reason) {
    if (!options.snapshot_directory.empty()) {
        throw Error::refused(
            "snapshots of logical volumes are kept in their volume group, not in the directory " + options.snapshot_directory,
            "leave --snapshot-dir out, or choose another kind with --snapshot");
    }
    auto place = std::make_shared<const LvmPlace>(node_directory);
    const lvm::Volume& volume = place->volume();
    const LvmKind kind = volume.is_thin() ? LvmKind::kThin : LvmKind::kClassic;
    if (wanted && *wanted != kind) {
        throw Error::refused("the node directory " + node_directory + " lies on " + volume.full_name() +
                                 (volume.is_thin() ? ", a thin volume, of which thin snapshots are taken" : ", which is no thin volume"),
                             std::string("use --snapshot ") + name_of(kind));
    }
    auto backend = std::make_unique<LvmBackend>(kind, place, excludes, options, std::move(reason));
    if (options.preflight) {
        backend->extents_for(place->group(), true);
    }
    return backend;
}

std::string remove_lvm_snapshot_elsewhere(const SnapshotProof& proof) {
    for (const lvm::Volume& volume : lvm::list_volumes()) {
        if (!volume.has_tag(kVolumeTag) || !is_temporary_snapshot_name(volume.name) || !is_volume_of(proof, volume)) {
            continue;
        }
        if (volume.is_open()) {
            return "somebody uses it";
        }
        remove_own_volume(volume);
    }
    return "";
}

bool remove_left_lvm_snapshot(const std::string& path) {
    // The record comes from the repository. Only what a backup made for itself can be meant.
    const std::string scheme = kVolumeScheme;
    const std::size_t slash = path.find('/');
    if (!path.starts_with(scheme) || slash == std::string::npos) {
        return true;
    }
    const std::string group = path.substr(scheme.size(), slash - scheme.size());
    const std::string name = path.substr(slash + 1);
    constexpr const char* kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_.-";
    if (group.empty() || group.find_first_not_of(kAllowed) != std::string::npos || !is_temporary_snapshot_name(name)) {
        return true;
    }
    const std::vector<lvm::Volume> volumes = lvm::list_volumes(group);
    if (volumes.empty()) {
        return false;  // the group isn't there, or is hidden
    }
    for (const lvm::Volume& volume : volumes) {
        if (volume.name == name && volume.has_tag(kVolumeTag)) {
            remove_own_volume(volume);
        }
    }
    return true;
}

}  // namespace nodesnap
