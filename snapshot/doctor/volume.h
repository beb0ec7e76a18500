// What the logical volume that a node directory lies on offers its snapshots. Internal to the doctor.
#pragma once

#include <string>

#include "snapshot/doctor/findings.h"

namespace nodesnap {

// Of a file system on a logical volume; tells nothing of others.
void examine_volume(const std::string& node_directory, Findings& findings);

}  // namespace nodesnap
