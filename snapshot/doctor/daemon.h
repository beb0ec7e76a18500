// Who uses the node directory, how they could be held, and which engine it belongs to. Internal to the doctor.
#pragma once

#include <string>
#include <vector>

#include "snapshot/doctor/findings.h"
#include "snapshot/exclude.h"

namespace nodesnap {

struct Daemon {
    bool in_use = false;       // somebody may write to it
    std::string hold_options;  // of `nodesnap backup`: "--hold freeze --unit qdbd.service"; empty: nobody to hold, or no way
};

Daemon examine_daemon(const std::string& node_directory, const ExcludeRules& excludes, Findings& findings);

// What a configuration of qdbd says of data that isn't in the node directory; empty: nothing. Throws Error if it isn't JSON.
std::vector<std::string> qdbd_data_elsewhere(const std::string& json, const std::string& node_directory);
// What a RocksDB OPTIONS file says of files that aren't in the node directory.
std::vector<std::string> rocksdb_data_elsewhere(const std::string& text, const std::string& node_directory);

}  // namespace nodesnap
