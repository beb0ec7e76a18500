// What became of the cluster backups of a cluster: put together from what each node's repository tells. Pure, but for inspect_repository().
// See docs/design.md, "A cluster at one moment".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/cluster/link.h"
#include "snapshot/repository/cut.h"

namespace nodesnap::cluster {

// Tells, as messages, all that a repository has of cluster backups, and its newest good backup.
void inspect_repository(const Repository& repository, const std::function<void(const Json&)>& tell);

// One node's backup, in one cut.
struct Part {
    SessionId id;
    CutPart place;
    bool damaged = false;
    std::int64_t snapshot_ns = 0, snapshot_duration_ns = 0, held_ns = 0;
    std::uint64_t bytes = 0, stored_bytes = 0;
    std::string consistency, engine_version;
};

// What one node's repository has told.
struct NodeFacts {
    std::string name;         // in the cluster file
    std::string unreachable;  // why it has told nothing; empty if it has
    std::map<CutId, StoredCut> cuts;
    std::map<CutId, Part> parts;        // that are backups
    std::map<CutId, SessionId> drafts;  // that can be gone on with
    std::optional<SessionId> newest;    // good backup, of whatever kind
    std::int64_t newest_ns = 0;         // when its snapshot was taken
    static NodeFacts of(const std::string& name, const std::vector<Json>& answers);
};

struct CutState {
    enum class Kind { kComplete, kDegraded, kUnfinished, kGivenUp, kUnknown };
    struct Node {
        std::string name;
        std::string what;                // for people: "good", "missing: ...", "unfinished"
        std::optional<Part> part;        // that there is
        std::optional<SessionId> draft;  // that can be gone on with
    };
    CutProposal proposal;
    Kind kind = Kind::kUnknown;
    std::string why;  // it isn't complete
    bool forgotten = false;
    std::vector<Node> nodes;  // in the proposal's order
    bool held = false;        // all were
    bool one_moment = false;  // proved
    std::int64_t skew_ns = 0, skew_doubt_ns = 0;
    std::uint64_t bytes = 0, stored_bytes = 0;
};
const char* text_of(CutState::Kind kind) noexcept;
std::string moment_of(const CutState& state);  // "one moment", "held, not proved", "skew 12 ms"

// In the order of their times. A part counts only if proposal and part name each other.
std::vector<CutState> cut_states(const std::vector<NodeFacts>& nodes);

}  // namespace nodesnap::cluster
