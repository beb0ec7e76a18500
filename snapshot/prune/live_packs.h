// LivePacks: the packs that backups refer to, found by going through their trees.
//
// Of each backup only what it doesn't share with the one added before is read, so that the cost follows what the backups differ in. One
// thread. Memory: one node per level, and up to 50 bytes for each pack.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "snapshot/repository/node_format.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/run_places.h"

namespace nodesnap {

class LivePacks {
public:
    explicit LivePacks(const Repository& repository) : repository_(repository), places_(repository.packs()) {}

    // In the order in which they were made. Error::damaged where a tree or map can't be read: then nothing may be removed.
    void add(const Manifest& backup);
    bool contains(const PackId& pack) const { return packs_.contains(pack); }

private:
    void add_inode(const std::optional<Bytes>& before, const Bytes& after);
    void add_runs(const std::vector<Run>& runs);

    const Repository& repository_;
    RunPlaces places_;
    TreeRoot last_;  // of the backup added last: all that it refers to is in packs_
    std::unordered_set<PackId, PackIdHash> packs_;
};

}  // namespace nodesnap
