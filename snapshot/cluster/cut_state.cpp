#include "snapshot/cluster/cut_state.h"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <utility>

#include "io/units.h"
#include "platform/error.h"

namespace nodesnap::cluster {
namespace {

Json message_of(const Manifest& manifest) {
    const CutPart& place = *manifest.cut;
    return {{"is", "part"},
            {"cut", place.cut.text()},
            {"backup", manifest.id.hex()},
            {"cluster", place.cluster},
            {"node", place.node},
            {"proposal", place.proposal},
            {"hold", static_cast<int>(place.hold)},
            {"released", place.released},
            {"taken", place.taken_ns},
            {"doubt", place.doubt_ns},
            {"damaged", manifest.damaged},
            {"snapshot", manifest.snapshot_time_ns},
            {"duration", manifest.snapshot_duration_ns},
            {"downtime", manifest.held_ns},
            {"bytes", manifest.totals.logical_bytes},
            {"stored", manifest.totals.stored_bytes},
            {"consistency", to_string(manifest.consistency)},
            {"engine", manifest.engine_version}};
}

CutId cut_of(const Json& message) {
    const auto id = CutId::parse(text_of(message, "cut"));
    if (!id) {
        throw Error::failed("a node names a cluster backup that is none");
    }
    return *id;
}

SessionId backup_of(const Json& message) {
    const auto id = SessionId::parse(text_of(message, "backup"));
    if (!id) {
        throw Error::failed("a node names a backup that is none");
    }
    return *id;
}

Part part_of(const Json& message) {
    Part part;
    part.id = backup_of(message);
    part.place.cut = cut_of(message);
    part.place.cluster = text_of(message, "cluster");
    part.place.node = text_of(message, "node");
    part.place.proposal = text_of(message, "proposal");
    part.place.hold = static_cast<CutPart::Hold>(std::clamp<std::int64_t>(number_of(message, "hold"), 0, 2));
    part.place.released = flag_of(message, "released");
    part.place.taken_ns = number_of(message, "taken");
    part.place.doubt_ns = number_of(message, "doubt");
    part.damaged = flag_of(message, "damaged");
    part.snapshot_ns = number_of(message, "snapshot");
    part.snapshot_duration_ns = number_of(message, "duration");
    part.held_ns = number_of(message, "downtime");
    part.bytes = static_cast<std::uint64_t>(number_of(message, "bytes"));
    part.stored_bytes = static_cast<std::uint64_t>(number_of(message, "stored"));
    part.consistency = text_of(message, "consistency");
    part.engine_version = text_of(message, "engine");
    return part;
}

// One cut, from all that the nodes tell of it.
class Judge {
public:
    Judge(const std::vector<NodeFacts>& nodes, const CutProposal& proposal) : nodes_(nodes), checksum_(proposal.checksum()) {
        state_.proposal = proposal;
    }
    Judge(const Judge&) = delete;
    Judge& operator=(const Judge&) = delete;

    CutState judge() {
        for (const CutProposal::Node& node : state_.proposal.nodes) {
            look_at(node);
        }
        state_.kind = kind();
        measure();
        return std::move(state_);
    }

private:
    void look_at(const CutProposal::Node& proposed) {
        CutState::Node node{proposed.name, "", {}, {}};
        const auto facts = std::find_if(nodes_.begin(), nodes_.end(), [&](const NodeFacts& other) { return other.name == proposed.name; });
        if (!proposed.id) {
            node.what = "missing: " + proposed.missing;
            missing_ = true;
        } else if (facts == nodes_.end() || !facts->unreachable.empty()) {
            node.what = facts == nodes_.end() ? "not in the cluster file any more" : "can't be asked: " + facts->unreachable;
            unknown_ = true;
        } else {
            look_at(node, *proposed.id, *facts);
        }
        state_.nodes.push_back(std::move(node));
    }

    void look_at(CutState::Node& node, const SessionId& id, const NodeFacts& facts) {
        const CutId& cut = state_.proposal.id;
        if (const auto stored = facts.cuts.find(cut); stored != facts.cuts.end()) {
            state_.forgotten = state_.forgotten || stored->second.forgotten;
            if (stored->second.given_up && state_.why.empty()) {
                state_.why = *stored->second.given_up;
                given_up_ = true;
            }
        }
        const auto part = facts.parts.find(cut);
        const auto draft = facts.drafts.find(cut);
        if (part != facts.parts.end() && part->second.id == id && part->second.place.node == node.name &&
            part->second.place.proposal == checksum_) {
            node.part = part->second;
            node.what = part->second.damaged ? "incomplete: not all could be read" : "good";
            damaged_ = damaged_ || part->second.damaged;
        } else if (draft != facts.drafts.end() && draft->second == id) {
            node.draft = draft->second;
            node.what = "unfinished: its snapshot is held, and can be drained";
            unfinished_ = true;
        } else {
            node.what = "nothing came of it";
            lost_ = true;
        }
    }

    CutState::Kind kind() {
        const auto say = [this](const char* why) { state_.why = state_.why.empty() ? why : state_.why; };
        // Where all parts are there a mark says nothing: whoever may write to one repository could have made it.
        if (given_up_ && (unfinished_ || lost_) && !state_.proposal.degraded) {
            return CutState::Kind::kGivenUp;
        }
        if (unknown_) {
            say("not all nodes can be asked");
            return CutState::Kind::kUnknown;
        }
        if (unfinished_) {
            say("not all of it is drained");
            return CutState::Kind::kUnfinished;
        }
        if (lost_ && !state_.proposal.degraded) {
            say("of a node nothing came");
            return CutState::Kind::kGivenUp;
        }
        if (damaged_) {
            say("not all could be read");
            return CutState::Kind::kDegraded;
        }
        if (missing_ || lost_) {
            say("nodes are missing");
            return CutState::Kind::kDegraded;
        }
        state_.why.clear();
        return CutState::Kind::kComplete;
    }

    void measure() {
        bool any = false;
        std::int64_t first = 0;
        std::int64_t last = 0;
        bool known = true;
        state_.held = state_.one_moment = true;
        for (const CutState::Node& node : state_.nodes) {
            if (!node.part) {
                state_.one_moment = false;
                continue;
            }
            const Part& part = *node.part;
            const CutPart& place = part.place;
            state_.held = state_.held && place.hold != CutPart::Hold::kNone;
            state_.one_moment = state_.one_moment && place.hold == CutPart::Hold::kProved && place.released;
            state_.bytes += part.bytes;
            state_.stored_bytes += part.stored_bytes;
            known = known && place.taken_ns != 0;
            const std::int64_t ended = place.taken_ns + part.snapshot_duration_ns;
            first = any ? std::min(first, place.taken_ns) : place.taken_ns;
            last = any ? std::max(last, ended) : ended;
            any = true;
            state_.skew_doubt_ns = std::max(state_.skew_doubt_ns, 2 * place.doubt_ns);
        }
        state_.held = state_.held && any;
        state_.one_moment = state_.one_moment && any;
        state_.skew_ns = any && known ? last - first : -1;
    }

    const std::vector<NodeFacts>& nodes_;
    CutState state_;
    const std::string checksum_;
    bool missing_ = false, unknown_ = false, unfinished_ = false, lost_ = false, damaged_ = false, given_up_ = false;
};

}  // namespace

void inspect_repository(const Repository& repository, const std::function<void(const Json&)>& tell) {
    for (const StoredCut& cut : stored_cuts(repository)) {
        Json message{{"is", "cut"}, {"proposal", cut.proposal.text()}, {"forgotten", cut.forgotten}};
        if (cut.given_up) {
            message["given_up"] = *cut.given_up;
        }
        tell(message);
    }
    std::optional<Manifest> newest;
    repository.for_each_backup([&](const BackupEntry& entry) {
        if (!entry.manifest) {
            return;
        }
        if (entry.manifest->cut) {
            tell(message_of(*entry.manifest));
        }
        if (!entry.manifest->damaged) {
            newest = *entry.manifest;
        }
    });
    const std::set<SessionId> unfinished = repository.unfinished_sessions();
    for (const SessionRecord& session : repository.sessions()) {
        if (session.cut && unfinished.contains(session.id) && repository.can_be_resumed(session)) {
            tell({{"is", "draft"}, {"cut", session.cut->text()}, {"backup", session.id.hex()}});
        }
    }
    if (newest) {
        tell({{"is", "newest"}, {"backup", newest->id.hex()}, {"snapshot", newest->snapshot_time_ns}});
    }
}

NodeFacts NodeFacts::of(const std::string& name, const std::vector<Json>& answers) {
    NodeFacts facts;
    facts.name = name;
    for (const Json& message : answers) {
        const std::string what = text_of(message, "is");
        if (what == "cut") {
            StoredCut cut;
            cut.proposal = CutProposal::parse(text_of(message, "proposal"), "what node " + name + " has of a cluster backup");
            cut.forgotten = flag_of(message, "forgotten");
            if (message.contains("given_up")) {
                cut.given_up = text_of(message, "given_up");
            }
            const CutId id = cut.proposal.id;
            facts.cuts.emplace(id, std::move(cut));
        } else if (what == "part") {
            Part part = part_of(message);
            const CutId id = part.place.cut;
            facts.parts.emplace(id, std::move(part));
        } else if (what == "draft") {
            facts.drafts.emplace(cut_of(message), backup_of(message));
        } else if (what == "newest") {
            facts.newest = backup_of(message);
            facts.newest_ns = number_of(message, "snapshot");
        }
    }
    return facts;
}

const char* text_of(CutState::Kind kind) noexcept {
    constexpr std::array kTexts{"complete", "degraded", "unfinished", "given up", "unknown"};
    return kTexts[static_cast<std::size_t>(kind)];
}

std::string moment_of(const CutState& state) {
    if (state.one_moment) {
        return "one moment";
    }
    const std::string skew = state.skew_ns < 0 ? "skew not known" : "skew " + human_duration(std::chrono::nanoseconds(state.skew_ns));
    return state.held ? "held, not proved, " + skew : skew;
}

std::vector<CutState> cut_states(const std::vector<NodeFacts>& nodes) {
    // The copies of a proposal must be equal: where they aren't, each is a cut of its own, with the parts that name it.
    std::map<std::string, const CutProposal*> proposals;
    for (const NodeFacts& node : nodes) {
        for (const auto& [id, cut] : node.cuts) {
            proposals.emplace(cut.proposal.checksum(), &cut.proposal);
        }
    }
    std::vector<CutState> states;
    states.reserve(proposals.size());
    for (const auto& [checksum, proposal] : proposals) {
        states.push_back(Judge(nodes, *proposal).judge());
    }
    std::sort(states.begin(), states.end(), [](const CutState& one, const CutState& other) {
        return std::tie(one.proposal.created_ns, one.proposal.id) < std::tie(other.proposal.created_ns, other.proposal.id);
    });
    return states;
}

}  // namespace nodesnap::cluster
