#include "snapshot/backend/lvm_exchange.h"

#include <algorithm>
#include <utility>

#include "platform/detached_mount.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/lvm_thin.h"
#include "platform/mount_exchange.h"
#include "snapshot/backend/lvm_snapshot.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

std::optional<lvm::Volume> with_uuid(std::vector<lvm::Volume> volumes, const std::string& uuid) {
    const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const lvm::Volume& volume) { return volume.uuid == uuid; });
    return found == volumes.end() || uuid.empty() ? std::nullopt : std::optional(std::move(*found));
}

void rename(const lvm::Volume& volume, const std::string& name) {
    if (volume.name != name) {
        lvm::rename_volume(volume.group, volume.name, name);
    }
}

}  // namespace

std::vector<lvm::Volume> LvmExchange::volumes() const {
    std::vector<lvm::Volume> volumes = lvm::list_volumes(note_.group_name);
    std::erase_if(volumes, [this](const lvm::Volume& volume) { return volume.group_uuid != note_.group; });
    return volumes;
}

std::optional<lvm::Volume> LvmExchange::find(const std::string& uuid) const {
    return with_uuid(volumes(), uuid);
}

lvm::Volume LvmExchange::need(const std::string& uuid) const {
    auto volume = find(uuid);
    if (!volume) {
        throw Error::failed("lvs doesn't list the volume of " + note_.group_name + " any more that has the UUID " + uuid,
                            "what is mounted at " + note_.mount.mount_point + " was " + note_.group_name + "/" + note_.name);
    }
    return std::move(*volume);
}

LvmShown LvmExchange::shown() const {
    const std::string& point = note_.mount.mount_point;
    if (!stat_path(point)) {
        return LvmShown::kOther;
    }
    const Mount mount = mount_of(point);
    if (mount.mount_point != point) {
        return LvmShown::kNothing;
    }
    const auto id = lvm::volume_of_device(mount.device);
    if (!id || id->group_uuid != note_.group) {
        return LvmShown::kOther;
    }
    return id->uuid == note_.replaced ? LvmShown::kReplaced : id->uuid == note_.made ? LvmShown::kMade : LvmShown::kOther;
}

LvmShown LvmExchange::uncover() const {
    const std::string& point = note_.mount.mount_point;
    const auto mounts = list_mounts();
    const bool beneath = std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) {
        const auto id = mount.mount_point == point ? lvm::volume_of_device(mount.device) : std::nullopt;
        return id && id->group_uuid == note_.group && id->uuid == note_.made;
    });
    if (beneath && shown() == LvmShown::kReplaced) {
        unmount(point);
    }
    return shown();
}

void LvmExchange::exchange_names() const {
    const lvm::Volume replaced = need(note_.replaced);
    const lvm::Volume made = need(note_.made);
    // From the next boot on, which before the names are exchanged finds two of one file system's UUID: either is whole.
    if (!replaced.skips_activation() && made.skips_activation()) {
        lvm::clear_activation_skip(made);
        fault::step("rollback.activated");
    }
    rename(replaced, note_.kept);
    fault::step("rollback.renamed-away");
    rename(made, note_.name);
    fault::step("rollback.renamed");
}

void LvmExchange::take_names_back() const {
    if (const auto made = find(note_.made)) {
        rename(*made, note_.work);
        fault::step("rollback.renamed-back");
    }
    rename(need(note_.replaced), note_.name);
}

FileDescriptor LvmExchange::mount(const std::string& uuid, FileDescriptor held) const {
    const lvm::Volume volume = need(uuid);
    if (!volume.is_active()) {
        lvm::activate(volume);
    }
    std::string why;
    FileDescriptor mounted = mount_detached(mount_like(note_.mount, volume.device), why);
    if (!mounted) {
        throw Error::failed("cannot mount " + volume.full_name() + ": " + why, "what the kernel's log (dmesg) says may tell more");
    }
    fault::step("rollback.opened");
    if (shown() == LvmShown::kNothing) {
        attach_mount(mounted.get(), note_.mount.mount_point);
    } else {
        held.reset();
        exchange_mount(mounted.get(), note_.mount.mount_point);
    }
    return mounted;
}

void LvmExchange::complete() const {
    std::vector<lvm::Volume> all = volumes();
    auto replaced = with_uuid(all, note_.replaced);
    if (replaced && (replaced->name != note_.kept || need(note_.made).name != note_.name)) {
        exchange_names();
        all = volumes();
        replaced = with_uuid(all, note_.replaced);
    }
    if (replaced) {  // unless somebody has removed it since
        adopt_snapshots(all, *replaced);
        keep_replaced(*replaced);
    }
    const std::string before = tag_of_origin(note_.replaced);
    std::vector<lvm::Volume> adopted = all;
    std::erase_if(adopted, [&](const lvm::Volume& volume) { return !volume.has_tag(kVolumeTag) || !volume.has_tag(before); });
    lvm::change_tags(adopted, "", before);
    if (const auto made = with_uuid(all, note_.made); made && made->has_tag(kExchangeTag)) {
        lvm::change_tags(*made, "", kExchangeTag);
    }
}

// The snapshots of what was replaced are those of what has come in its place; so is itself.
void LvmExchange::adopt_snapshots(std::vector<lvm::Volume> all, const lvm::Volume& replaced) const {
    const std::string tag = tag_of_origin(note_.made);
    std::erase_if(all, [&](const lvm::Volume& volume) {
        const bool ours = volume.has_tag(kVolumeTag) && is_snapshot_of(volume, replaced);
        return volume.has_tag(tag) || (!ours && volume.uuid != replaced.uuid);
    });
    lvm::change_tags(all, tag, "");
    fault::step("rollback.adopted");
}

void LvmExchange::keep_replaced(const lvm::Volume& replaced) const {
    if (replaced.is_open()) {
        throw Error::failed("what was there before, " + replaced.full_name() + ", is still in use, and can't be made read-only",
                            "see who has something of it open, or mounted, and end that");
    }
    if (replaced.is_active()) {
        lvm::deactivate(replaced);
        fault::step("rollback.deactivated");
    }
    if (!replaced.skips_activation() || !replaced.is_read_only() || !replaced.has_tag(kVolumeTag)) {
        lvm::seal(replaced, kVolumeTag);  // active at boot, it would be mounted by its file system's UUID
    }
    fault::step("rollback.kept");
}

void LvmExchange::take_back() const {
    std::vector<lvm::Volume> all = volumes();
    // Before its UUID was known it has the name that nothing else has.
    const auto made = std::find_if(all.begin(), all.end(), [this](const lvm::Volume& volume) {
        return volume.uuid != note_.replaced && volume.has_tag(kExchangeTag) &&
               (note_.made.empty() ? volume.name == note_.work : volume.uuid == note_.made);
    });
    if (made == all.end()) {
        rename(need(note_.replaced), note_.name);
        return;
    }
    rename(*made, note_.work);
    fault::step("rollback.renamed-back");
    rename(need(note_.replaced), note_.name);
    fault::step("rollback.name-back");
    lvm::remove_volume(made->group + "/" + note_.work);
    fault::step("rollback.removed");
}

std::string finish_lvm_rollback(const std::string& directory) {
    auto record = LvmRollbackRecord::find(directory);
    if (!record) {
        return "";
    }
    const LvmRollbackNote note = record->note();
    const LvmExchange exchange(note);
    LvmShown shown = exchange.uncover();
    if (shown == LvmShown::kOther) {
        throw Error::failed(
            "neither " + note.group_name + "/" + note.name + " nor what was to take its place is mounted at " + note.mount.mount_point,
            "unmount what is there, and run nodesnap snapshot list " + shell_word(note.node_directory));
    }
    if (shown == LvmShown::kNothing) {
        const auto made = exchange.find(note.made);
        const bool took_place = made && made->name == note.name;
        if (!took_place) {
            exchange.take_names_back();
        }
        exchange.mount(took_place ? note.made : note.replaced, {});
        fault::step("rollback.mounted-again");
        shown = took_place ? LvmShown::kMade : LvmShown::kReplaced;
    }
    if (shown == LvmShown::kMade) {
        exchange.complete();
    } else {
        exchange.take_back();
    }
    record->remove();
    return "a rollback of " + note.node_directory + " to the snapshot " + note.snapshot_name + " was cut off " +
           (shown == LvmShown::kMade
                ? "after it had taken place: the directory is that of the snapshot, and what was there before is kept as " + note.kept_name
                : "before it took place: the directory is what it was");
}

}  // namespace nodesnap
