// A cut: what was to be one cluster backup, and what became of it, as the nodes' repositories tell. See docs/format.md, "Cluster backups",
// and docs/design.md, "A cluster at one moment".
//
// The proposal is stored in each node's repository before anything is held. Nothing is ever written to say that a cut is complete: that
// follows from the parts' manifests. Only that nothing more comes of it, or that its parts may go, is marked.
//
// Errors: Error::damaged for what can't be read; Error::failed for what would be too large. Threads: one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/repository/cut_part.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct CutProposal {
    struct Node {
        std::string name;
        std::string repository;       // as the node names it
        Uuid repository_uuid;         // null if it is missing
        std::optional<SessionId> id;  // of its backup
        std::string missing;          // why it isn't a part; empty if it is
        bool operator==(const Node&) const = default;
    };
    CutId id;
    std::string cluster;
    std::int64_t created_ns = 0;  // UTC, the coordinator's
    bool degraded = false;        // it counts as done without the nodes that are missing
    std::vector<Node> nodes;      // in the cluster file's order
    std::string cluster_file;     // its text, from which a cut is gone on with where the file is lost
    bool operator==(const CutProposal&) const = default;

    std::string text() const;      // JSON; the same for all repositories
    std::string checksum() const;  // of that text, 32 hexadecimal digits
    static CutProposal parse(const std::string& text, const std::string& name);
};

// Kinds of the objects.
inline constexpr std::string_view kCutProposalKind = "cut";
inline constexpr std::string_view kCutMarkKind = "cut-mark";

enum class CutMark { kGivenUp, kForgotten };

// What one repository tells of one cut.
struct StoredCut {
    CutProposal proposal;
    std::optional<std::string> given_up;  // why
    bool forgotten = false;
};

// Needs the lease, as all that is written does. False if there is one of that id with another content.
bool store_proposal(const Repository& repository, const Lease& lease, const CutProposal& proposal);
// Durable when it returns; nothing if it is marked so already.
void mark_cut(const Repository& repository, const Lease& lease, const CutId& cut, CutMark mark, const std::string& why);
// All whose proposal can be read, in the order of their times; what can't be read goes to the repository's damage sink.
std::vector<StoredCut> stored_cuts(const Repository& repository);
// Cuts that are marked as forgotten: their parts are kept for no cluster any more.
std::set<CutId> forgotten_cuts(const Repository& repository);

}  // namespace nodesnap
