// Takes one backup of each node of a cluster, all at one moment. See docs/design.md, "A cluster at one moment".
//
// Errors: before the snapshots are all there, whatever fails makes all nodes let go and take back what they took, and is thrown; afterwards
// what a node fails with is its own, in the result. Threads: one. Privileges: none; each agent has its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "snapshot/cluster/drains.h"
#include "snapshot/cluster/member.h"
#include "snapshot/repository/cut.h"

namespace nodesnap::cluster {

struct CutOptions {
    std::string cluster;
    std::string cluster_file;                // its text
    bool degraded = false;                   // go on without nodes that fail, and name them
    bool accept_skew = false;                // holds may differ between the nodes
    std::chrono::seconds patience{900};      // with what a node does before it is held
    std::chrono::seconds hold_patience{10};  // with holding, and with snapshots, where the guards' limits aren't shorter
    DrainRules drains;
    std::function<void(const Members&, const char* phase)> watch;
};

struct CutResult {
    CutProposal proposal;
    bool held = false;                // all were
    bool one_moment = false;          // and it is proved that no snapshot has an effect whose cause another lacks
    std::vector<std::string> doubts;  // why not, where they were held
    std::int64_t skew_ns = 0;         // from the beginning of the first snapshot to the end of the last
    std::int64_t skew_doubt_ns = 0;
};

// What became of each node is in `members`.
CutResult take_cut(Members& members, const CutOptions& options);

}  // namespace nodesnap::cluster
