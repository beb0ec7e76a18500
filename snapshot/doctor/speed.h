// How fast a node directory is read and a directory is written, past the page cache. Internal to the doctor.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "snapshot/doctor.h"
#include "snapshot/doctor/contents.h"

namespace nodesnap {

// Reads of the largest files, in pieces and depth as a drain does, for about so long, and then random pages of them. Throws Error; nothing
// to read is 0.
MeasuredSpeed measure_reading(const std::string& node_directory, const std::vector<LargestFile>& files, std::chrono::nanoseconds time);

// Writes to a file without a name in `directory`, and makes it durable, for about so long; at most a hundredth of what is free there.
// Throws Error where there can be no such file.
MeasuredSpeed measure_writing(const std::string& directory, std::chrono::nanoseconds time);

}  // namespace nodesnap
