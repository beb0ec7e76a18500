// ClusterTable: a line for each node of a cluster, with its state, rate and ETA, kept up to date on a terminal; the destructor clears it.
#pragma once

#include <ostream>
#include <string>

#include "snapshot/cluster/member.h"

namespace nodesnap::command {

// One line of the table; at most 79 columns.
std::string line_of(const cluster::Member& member, std::size_t name_columns);

class ClusterTable {
public:
    // Shows nothing unless `shown`. Nothing else may write to `out` while it lives.
    ClusterTable(std::ostream& out, bool shown) : out_(out), shown_(shown) {}
    ClusterTable(const ClusterTable&) = delete;
    ClusterTable& operator=(const ClusterTable&) = delete;
    ~ClusterTable() { clear(); }
    void show(const cluster::Members& members, const std::string& phase);
    void clear();

private:
    std::ostream& out_;
    const bool shown_;
    std::size_t lines_ = 0;  // on the screen
};

}  // namespace nodesnap::command
