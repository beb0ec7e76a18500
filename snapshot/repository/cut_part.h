// CutPart: what a backup says of the cluster backup (a *cut*) that it is a part of. See docs/design.md, "A cluster at one moment".
#pragma once

#include <cstdint>
#include <string>

#include "snapshot/repository/ids.h"

namespace nodesnap {

using CutId = Uuid;

struct CutPart {
    enum class Hold : std::uint8_t {
        kNone = 0,      // the daemon wasn't held
        kUnproved = 1,  // it was, but whether nothing of it ran can't be told
        kProved = 2,    // it stood still from before its snapshot until it was let go
    };

    CutId cut;
    std::string cluster;
    std::string node;           // as the cluster file calls it
    std::string proposal;       // checksum of what the cut was to be: CutProposal::checksum()
    Hold hold = Hold::kNone;    // of the node's daemon
    bool released = false;      // the coordinator's word to let go came before it was let go: by then all snapshots had been taken
    std::int64_t taken_ns = 0;  // when its snapshot was begun, by the coordinator's clock (UTC); 0: not known
    std::int64_t doubt_ns = 0;  // by how much that may be wrong, either way
    bool operator==(const CutPart&) const = default;
};

}  // namespace nodesnap
