// UseMarks: the segments that backups refer to, found by going through their trees and told to a ledger.
//
// Of each backup only what it doesn't share with the one added before is read, so that the cost follows what the backups differ in. One
// thread. Memory: one node per level, and what the ledger takes.
#pragma once

#include <optional>
#include <vector>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/run_places.h"
#include "snapshot/verify/pack_ledger.h"

namespace nodesnap {

class UseMarks {
public:
    UseMarks(const Repository& repository, PackLedger& ledger) : repository_(repository), ledger_(ledger), places_(repository.packs()) {}

    // In the order in which they were made. Error::damaged where a tree or map can't be read: then nothing may be removed.
    void add(const Manifest& backup);

private:
    void add_node(const SegmentRef& node);
    void add_inode(const std::optional<Bytes>& before, const Bytes& after);
    void add_run(const Run& run);
    void add_runs(const std::vector<Run>& runs);

    const Repository& repository_;
    PackLedger& ledger_;
    RunPlaces places_;
    TreeRoot last_;  // of the backup added last: all that it refers to is marked
};

}  // namespace nodesnap
