#include "snapshot/backend/lvm_exchange.h"

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/lvm_thin.h"
#include "platform/mount_exchange.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

void rename(const lvm::Volume& volume, const std::string& name) {
    if (volume.name != name) {
        lvm::rename_volume(volume.group, volume.name, name);
    }
}

}  // namespace

LvmShown LvmExchange::uncover() const {
    const std::string& point = note().mount.mount_point;
    const auto mounts = list_mounts();
    const bool beneath = std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) {
        const auto id = mount.mount_point == point ? lvm::volume_of_device(mount.device) : std::nullopt;
        return id && id->group_uuid == note().group && id->uuid == note().made;
    });
    if (beneath && shown() == LvmShown::kReplaced) {
        unmount(point);
    }
    return shown();
}

void LvmExchange::exchange_names() const {
    const lvm::Volume replaced = need(note().replaced);
    const lvm::Volume made = need(note().made);
    // From the next boot on, which before the names are exchanged finds two of one file system's UUID: either is whole.
    if (!replaced.skips_activation() && made.skips_activation()) {
        lvm::clear_activation_skip(made);
        fault::step("rollback.activated");
    }
    rename(replaced, note().kept);
    fault::step("rollback.renamed-away");
    rename(made, note().name);
    fault::step("rollback.renamed");
}

void LvmExchange::take_names_back() const {
    if (const auto made = find(note().made)) {
        rename(*made, note().work);
        fault::step("rollback.renamed-back");
    }
    rename(need(note().replaced), note().name);
}

void LvmExchange::complete() const {
    std::vector<lvm::Volume> all = volumes();
    auto replaced = with_uuid(all, note().replaced);
    if (replaced && (replaced->name != note().kept || need(note().made).name != note().name)) {
        exchange_names();
        all = volumes();
        replaced = with_uuid(all, note().replaced);
    }
    if (replaced) {  // unless somebody has removed it since
        adopt_snapshots(all, *replaced);
        keep_replaced(*replaced);
    }
    const std::string before = tag_of_origin(note().replaced);
    std::vector<lvm::Volume> adopted = all;
    std::erase_if(adopted, [&](const lvm::Volume& volume) { return !volume.has_tag(kVolumeTag) || !volume.has_tag(before); });
    lvm::change_tags(adopted, "", before);
    if (const auto made = with_uuid(all, note().made); made && made->has_tag(kExchangeTag)) {
        lvm::change_tags(*made, "", kExchangeTag);
    }
}

// The snapshots of what was replaced are those of what has come in its place; so is itself.
void LvmExchange::adopt_snapshots(std::vector<lvm::Volume> all, const lvm::Volume& replaced) const {
    const std::string tag = tag_of_origin(note().made);
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
        return volume.uuid != note().replaced && volume.has_tag(kExchangeTag) &&
               (note().made.empty() ? volume.name == note().work : volume.uuid == note().made);
    });
    if (made == all.end()) {
        rename(need(note().replaced), note().name);
        return;
    }
    rename(*made, note().work);
    fault::step("rollback.renamed-back");
    rename(need(note().replaced), note().name);
    fault::step("rollback.name-back");
    lvm::remove_volume(made->group + "/" + note().work);
    fault::step("rollback.removed");
}

std::string finish_exchange(LvmRollbackRecord& record) {
    const LvmRollbackNote note = record.note();
    const LvmExchange exchange(note);
    exchange.uncover();
    LvmShown shown = exchange.known_shown();
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
    record.remove();
    return shown == LvmShown::kMade ? told_as_done(note) : told_as_undone(note);
}

}  // namespace nodesnap
