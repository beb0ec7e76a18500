// What of a node directory a snapshot made of links would link, and what it would copy. Internal to the doctor.
#pragma once

#include <string>
#include <vector>

#include "snapshot/doctor/findings.h"
#include "snapshot/exclude.h"

namespace nodesnap {

void examine_links(const std::string& node_directory, const ExcludeRules& excludes, const std::vector<std::string>& immutable,
                   Findings& findings);

}  // namespace nodesnap
