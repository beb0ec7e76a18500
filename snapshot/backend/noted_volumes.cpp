#include "snapshot/backend/noted_volumes.h"

#include <algorithm>
#include <utility>

#include "platform/detached_mount.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/lvm_thin.h"
#include "platform/mount_exchange.h"
#include "snapshot/shell_word.h"

namespace nodesnap {

std::optional<lvm::Volume> with_uuid(std::vector<lvm::Volume> volumes, const std::string& uuid) {
    const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const lvm::Volume& volume) { return volume.uuid == uuid; });
    return found == volumes.end() || uuid.empty() ? std::nullopt : std::optional(std::move(*found));
}

std::vector<lvm::Volume> NotedVolumes::volumes() const {
    std::vector<lvm::Volume> volumes = lvm::list_volumes(note_.group_name);
    std::erase_if(volumes, [this](const lvm::Volume& volume) { return volume.group_uuid != note_.group; });
    return volumes;
}

std::optional<lvm::Volume> NotedVolumes::find(const std::string& uuid) const {
    return with_uuid(volumes(), uuid);
}

lvm::Volume NotedVolumes::need(const std::string& uuid) const {
    auto volume = find(uuid);
    if (!volume) {
        throw Error::failed("lvs doesn't list the volume of " + note_.group_name + " any more that has the UUID " + uuid,
                            "what is mounted at " + note_.mount.mount_point + " was " + note_.group_name + "/" + note_.name);
    }
    return std::move(*volume);
}

LvmShown NotedVolumes::shown() const {
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

LvmShown NotedVolumes::known_shown() const {
    const LvmShown now = shown();
    if (now == LvmShown::kOther) {
        throw Error::failed(
            "neither " + note_.group_name + "/" + note_.name + " nor what was to take its place is mounted at " + note_.mount.mount_point,
            "unmount what is there, and run nodesnap snapshot list " + shell_word(note_.node_directory));
    }
    return now;
}

FileDescriptor NotedVolumes::mount(const std::string& uuid, FileDescriptor held) const {
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

}  // namespace nodesnap
