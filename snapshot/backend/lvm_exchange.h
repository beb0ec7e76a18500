// LvmExchange: two thin volumes of one pool that change places: the one that shows what a node directory is, and one made of a snapshot of
// it. The latter gets the name of the former, which becomes a snapshot of ours. See docs/design.md, "Rolling back a thin volume".
//
// Each call brings about what it says from whichever state a call that was cut off has left, and is durable when it returns. Errors:
// Error::failed. One thread. Needs root.
#pragma once

#include <string>
#include <vector>

#include "platform/lvm.h"
#include "snapshot/backend/lvm_rollback_record.h"
#include "snapshot/backend/noted_volumes.h"

namespace nodesnap {

class LvmExchange : public NotedVolumes {
public:
    using NotedVolumes::NotedVolumes;

    // As shown(), and what was made is shown if it is mounted there, be it beneath the other, which is unmounted then.
    LvmShown uncover() const;
    // What is mounted stays so under its other name.
    void exchange_names() const;
    void take_names_back() const;
    // When the one that was made is mounted: the names, whatever they are yet, and what was replaced is a snapshot from now on.
    // Error::failed if something still uses it.
    void complete() const;
    // When what was to be replaced is mounted: its name, whatever it is by now, and there is nothing else any more.
    void take_back() const;

private:
    void adopt_snapshots(std::vector<lvm::Volume> all, const lvm::Volume& replaced) const;
    void keep_replaced(const lvm::Volume& replaced) const;
};

// Ends an exchange that was cut off. Says what the directory is now, as a sentence.
std::string finish_exchange(LvmRollbackRecord& record);

}  // namespace nodesnap
