#include "snapshot/doctor/volume.h"

#include <algorithm>

#include "io/units.h"
#include "platform/error.h"
#include "platform/lvm_thin.h"
#include "platform/mount.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

void examine_room(const lvm::Volume& volume, Findings& findings) {
    constexpr std::uint64_t kFewPercent = 10;
    const std::uint64_t free = volume.free_extents * volume.extent_bytes;
    const std::string has = "the volume group " + volume.group + " has " + human_bytes(free) +
                            " in free extents, half of which a snapshot of " + volume.full_name() +
                            " gets for what is overwritten while it is read";
    if (free != 0 && free / 2 * 100 < volume.bytes * kFewPercent) {
        findings.warn("lvm",
                      has + ": that is less than a tenth of the volume's " + human_bytes(volume.bytes) +
                          "; a backup during which more is overwritten is given up",
                      "add a physical volume with vgextend, or give it more with --snapshot-size");
    } else {
        findings.fact("lvm", has);
    }
}

void examine_pool(const lvm::Volume& volume, Findings& findings) {
    const lvm::PoolFill fill = lvm::pool_fill(pool_of(volume));
    findings.fact("lvm", volume.full_name() + " is a thin volume; of its pool " + std::to_string(fill.data_percent()) +
                             " % of the data are used, and " + std::to_string(fill.metadata_percent()) + " % of the metadata");
}

}  // namespace

void examine_volume(const std::string& node_directory, Findings& findings) {
    const auto id = lvm::volume_of_device(mount_of(node_directory).device);
    if (!id) {
        return;
    }
    try {
        for (const lvm::Volume& volume : lvm::list_volumes()) {
            if (volume.uuid != id->uuid || volume.group_uuid != id->group_uuid) {
                continue;
            }
            if (volume.is_thin()) {
                examine_pool(volume, findings);
            } else {
                examine_room(volume, findings);
            }
        }
    } catch (const Error& error) {
        findings.warn("lvm", "it can't be told what the file system's logical volume offers: " + error.message(), error.hint());
    }
}

}  // namespace nodesnap
