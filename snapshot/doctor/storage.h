// What a node directory lies on: file system, device, room, and what about them a backup suffers from. Internal to the doctor.
#pragma once

#include <string>

#include "snapshot/doctor/findings.h"

namespace nodesnap {

// What is known of a block device, from sysfs.
struct BlockDevice {
    std::string kind;         // "a disk that turns", "a solid-state disk", "an LVM logical volume", "a loop device of /x/y"; empty: unknown
    bool rotational = false;  // as the kernel says; virtual disks often lie
    bool is_lvm = false;
};
BlockDevice describe_device(const std::string& path);  // "/dev/sda1"

void examine_storage(const std::string& node_directory, Findings& findings);

}  // namespace nodesnap
