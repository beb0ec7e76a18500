// UseMarks: the segments that backups refer to, of data and of metadata, found by going through their trees.
//
// Of each backup only what it doesn't share with the one added before is read, so that the cost follows what the backups differ in. One
// thread. Memory: one node per level.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/run_places.h"

namespace nodesnap {

class UseMarks {
public:
    // A run with data; of a node just where it lies.
    using Used = std::function<void(const Run& run)>;
    UseMarks(const Repository& repository, Used used) : repository_(repository), used_(std::move(used)), places_(repository.packs()) {}

    // In the order in which they were made. Error::damaged where a tree or map can't be read: then not all is told.
    void add(const TreeRoot& tree);

private:
    void add_node(const SegmentRef& node);
    void add_inode(const std::optional<Bytes>& before, const Bytes& after);
    void add_run(const Run& run);
    void add_runs(const std::vector<Run>& runs);

    const Repository& repository_;
    const Used used_;
    RunPlaces places_;
    TreeRoot last_;  // of the backup added last: all that it refers to is marked
};

}  // namespace nodesnap
