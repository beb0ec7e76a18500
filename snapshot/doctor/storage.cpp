#include "snapshot/doctor/storage.h"

#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <optional>

#include "io/units.h"
#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/mount.h"
#include "snapshot/doctor/volume.h"

namespace nodesnap {
namespace {

std::string read_attribute(const std::string& path) {
    try {
        std::string text = read_small_file(path).value_or("");
        text.erase(text.find_last_not_of(" \n") + 1);
        return text;
    } catch (const Error&) {
        return "";  // not every kernel and driver has each
    }
}

bool has_option(const Mount& mount, const std::string& option) {
    const auto names = "," + mount.options + "," + mount.super_options + ",";
    return names.find("," + option + ",") != std::string::npos;
}

void examine_room(const FileSystem& file_system, Findings& findings) {
    constexpr std::uint64_t kFewPercent = 5;
    if (file_system.total_bytes != 0 && file_system.free_bytes * 100 < file_system.total_bytes * kFewPercent) {
        findings.warn("room",
                      "only " + human_bytes(file_system.free_bytes) +
                          " of the node's file system are free: a snapshot keeps the space of what "
                          "is overwritten meanwhile",
                      "free some; `nodesnap snapshot trim --min-free` drops snapshots before the disk is full; --drop-snapshot keeps none "
                      "between backups");
    }
    if (file_system.total_inodes != 0 && file_system.free_inodes * 100 < file_system.total_inodes * kFewPercent) {
        findings.warn("room", "only " + std::to_string(file_system.free_inodes) + " inodes of the node's file system are free",
                      "remove files, or make the file system anew with more inodes");
    }
}

void examine_btrfs(const std::string& node_directory, const Mount& mount, Findings& findings) {
    const std::string uuid = file_system_uuid_of(node_directory);
    if (stat_path("/sys/fs/btrfs/" + uuid + "/qgroups")) {
        findings.warn(
            "quota groups",
            "they are on: btrfs counts anew whose space it is whenever a snapshot is removed, which takes long and holds up writers",
            "turn them off if nothing needs them: btrfs quota disable " + mount.mount_point);
    }
    if (has_option(mount, "nodatacow") || has_option(mount, "nodatasum")) {
        findings.warn(
            "checksums",
            "the file system is mounted with nodatacow or nodatasum: what is written so has no checksums of btrfs, and damage of the "
            "disk isn't noticed before `nodesnap` reads it, if then",
            "mount it without; nodatacow can be given to single files (chattr +C)");
    }
}

}  // namespace

BlockDevice describe_device(const std::string& path) {
    BlockDevice device;
    const auto status = stat_path(path);
    if (!status || !S_ISBLK(status->stx_mode)) {
        return device;
    }
    const std::string number = std::to_string(status->stx_rdev_major) + ":" + std::to_string(status->stx_rdev_minor);
    const std::string directory = "/sys/dev/block/" + number;
    const std::string of_disk = stat_path(directory + "/queue") ? directory : directory + "/..";  // a partition has none of its own
    const std::string rotational = read_attribute(of_disk + "/queue/rotational");
    device.rotational = rotational == "1";
    const std::string mapped = read_attribute(directory + "/dm/uuid");
    const std::string backing = read_attribute(directory + "/loop/backing_file");
    device.is_lvm = mapped.starts_with("LVM-");
    if (device.is_lvm) {
        device.kind = "an LVM logical volume";
    } else if (!mapped.empty()) {
        device.kind = "a device-mapper device";
    } else if (!backing.empty()) {
        device.kind = "a loop device of " + backing;
    } else if (!rotational.empty()) {
        device.kind = device.rotational ? "a disk that turns, as far as the kernel knows" : "a solid-state disk";
    }
    return device;
}

void examine_storage(const std::string& node_directory, Findings& findings) {
    const FileSystem file_system = file_system_of(node_directory);
    const Mount mount = mount_of(node_directory);
    findings.fact("file system", file_system.type + " on " + mount.source + ", mounted at " + mount.mount_point + "; " +
                                     human_bytes(file_system.free_bytes) + " of " + human_bytes(file_system.total_bytes) + " are free");
    const BlockDevice device = describe_device(mount.source);
    if (!device.kind.empty()) {
        findings.fact("device", device.kind);
    }
    if (device.is_lvm && !btrfs::is_btrfs(node_directory)) {
        examine_volume(node_directory, findings);
    }
    static constexpr std::array<const char*, 6> kRemote{"nfs", "nfs4", "cifs", "smb3", "ceph", "9p"};
    if (std::find(kRemote.begin(), kRemote.end(), mount.type) != kRemote.end() || mount.type.starts_with("fuse")) {
        findings.warn("file system", mount.type + " may be written to by others, on other hosts, whom nobody sees here",
                      "back the node up where its disks are");
    }
    examine_room(file_system, findings);
    if (btrfs::is_btrfs(node_directory)) {
        examine_btrfs(node_directory, mount, findings);
    }
}

}  // namespace nodesnap
