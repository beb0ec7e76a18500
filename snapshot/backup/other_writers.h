// Who could write to a node directory while a daemon is held: everybody who has a file open for writing there, and isn't held.
//
// Errors: nodesnap::Error. Threads: any. Privileges: those to look into other users' processes; without them it can't be told.
#pragma once

#include <optional>
#include <string>

#include "snapshot/exclude.h"
#include "snapshot/hold/intent.h"

namespace nodesnap {

struct OtherWriter {
    std::string text;   // "mdb (pid 12) has /node/data open for writing"; or that it can't be told
    bool seen = false;  // false: it can't be told
};

// One of them, but for the members of `cgroup` ("": none) and of the cgroups below it. Who begins to write after it was looked at isn't
// seen. Goes through all processes.
std::optional<OtherWriter> find_other_writer(const std::string& node_directory, const ExcludeRules& excludes, const std::string& cgroup);

// Before anything is held: Error::refused, with the remedy, if what would be held isn't all that writes there, as far as that can be told
// before.
void refuse_other_writers(const hold::Intent& intent, const ExcludeRules& excludes);

}  // namespace nodesnap
