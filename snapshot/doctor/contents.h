// What lies in a node directory: how much, and what of it a backup would miss. Internal to the doctor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/doctor/findings.h"
#include "snapshot/exclude.h"

namespace nodesnap {

struct LargestFile {
    std::string path;  // below the node directory
    std::uint64_t bytes = 0;
};

struct Contents {
    std::uint64_t files = 0, directories = 0, others = 0;
    std::uint64_t bytes = 0;           // allocated; of a file with several names once for each
    std::vector<LargestFile> largest;  // a few, the largest first
};

Contents examine_contents(const std::string& node_directory, const ExcludeRules& excludes, Progress& progress, Findings& findings);

}  // namespace nodesnap
