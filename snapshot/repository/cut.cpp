#include "snapshot/repository/cut.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>
#include <utility>

#include "io/checksum.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kNodesLimit = 1024;
constexpr std::size_t kLongestWhy = 1024;

std::string_view name_of(CutMark mark) {
    return mark == CutMark::kGivenUp ? "given-up" : "forgotten";
}

CutProposal::Node parse_node(const Json& from, const std::string& name) {
    CutProposal::Node node;
    node.name = member::text(from, "name", name);
    node.repository = member::path(from, "repository", name);
    node.missing = member::text(from, "missing", name);
    if (node.missing.empty()) {
        node.repository_uuid = member::uuid(from, "uuid", name);
        node.id = SessionId::parse(member::text(from, "backup", name));
        if (!node.id) {
            throw Error::damaged(name, "it names no backup of node " + node.name);
        }
    }
    return node;
}

// The members of a stored object, of which none belongs to the envelope.
CutProposal parse_members(const Json& members, const std::string& name) {
    CutProposal proposal;
    proposal.id = member::uuid(members, "cut", name);
    proposal.cluster = member::text(members, "cluster", name);
    proposal.created_ns = member::integer(members, "created", name);
    proposal.degraded = member::boolean(members, "degraded", name);
    const auto nodes = members.find("nodes");
    const auto file = members.find("cluster_file");
    if (nodes == members.end() || !nodes->is_array() || nodes->size() > kNodesLimit || file == members.end() || !file->is_string()) {
        throw Error::damaged(name, "its nodes, or the cluster file, are missing");
    }
    for (const Json& node : *nodes) {
        proposal.nodes.push_back(parse_node(node, name));
    }
    proposal.cluster_file = file->get<std::string>();
    return proposal;
}

Json members_of(const CutProposal& proposal) {
    Json members = Json::object();
    members["cut"] = proposal.id.text();
    members["cluster"] = proposal.cluster;
    members["created"] = proposal.created_ns;
    members["degraded"] = proposal.degraded;
    members["nodes"] = Json::array();
    for (const CutProposal::Node& node : proposal.nodes) {
        Json entry = Json::object();
        entry["name"] = node.name;
        entry["repository"] = member::from_path(node.repository);
        entry["missing"] = node.missing;
        if (node.id) {
            entry["uuid"] = node.repository_uuid.text();
            entry["backup"] = node.id->hex();
        }
        members["nodes"].push_back(std::move(entry));
    }
    members["cluster_file"] = proposal.cluster_file;
    return members;
}

JsonObject envelope(const Repository& repository, std::string_view kind) {
    JsonObject object;
    object.kind = kind;
    object.repository = repository.info().uuid;
    return object;
}

std::optional<JsonObject> load(const Repository& repository, const std::string& object, std::string_view kind) {
    const auto stored = repository.target().load(object, kJsonObjectLimit);
    if (!stored) {
        return std::nullopt;
    }
    return decode_json_object(stored->content, kind, repository.target().describe(object), repository.info().uuid);
}

// A mark that can't be read is one all the same: it hides nothing but itself.
std::optional<std::string> why_given_up(const Repository& repository, const CutId& id) {
    const std::string object = layout::cut_given_up(id);
    try {
        const auto mark = load(repository, object, kCutMarkKind);
        return mark ? std::optional(member::text(mark->members, "why", repository.target().describe(object))) : std::nullopt;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && error.status() != ExitStatus::kRefused) {
            throw;
        }
        return "its mark can't be read: " + error.message();
    }
}

std::vector<CutId> cuts_with(const Repository& repository, std::optional<CutId> (*parse)(std::string_view)) {
    std::vector<CutId> found;
    repository.target().list(layout::kClusters, [&](const ObjectEntry& entry) {
        if (const auto id = parse(entry.name)) {
            found.push_back(*id);
        }
    });
    return found;
}

}  // namespace

std::string CutProposal::text() const {
    return members_of(*this).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string CutProposal::checksum() const {
    const std::string content = text();
    return Hasher(0)(std::as_bytes(std::span(content))).hex();
}

CutProposal CutProposal::parse(const std::string& text, const std::string& name) {
    const Json members = Json::parse(text, nullptr, false);
    if (!members.is_object() || text.size() > kJsonObjectLimit) {
        throw Error::damaged(name, "it isn't a proposal of a cut");
    }
    return parse_members(members, name);
}

bool store_proposal(const Repository& repository, const Lease& lease, const CutProposal& proposal) {
    JsonObject object = envelope(repository, kCutProposalKind);
    object.members = members_of(proposal);
    const std::string name = layout::cut(proposal.id);
    lease.check();
    fault::step("cut.proposing");
    if (repository.target().create(name, encode_json_object(object))) {
        fault::step("cut.proposed");
        return true;
    }
    const auto present = load(repository, name, kCutProposalKind);
    return present && present->members == object.members;
}

void mark_cut(const Repository& repository, const Lease& lease, const CutId& cut, CutMark mark, const std::string& why) {
    JsonObject object = envelope(repository, kCutMarkKind);
    object.members["cut"] = cut.text();
    object.members["mark"] = name_of(mark);
    object.members["why"] = why.substr(0, kLongestWhy);
    object.members["time"] = utc_now_ns();
    lease.check();
    repository.target().create(mark == CutMark::kGivenUp ? layout::cut_given_up(cut) : layout::cut_forgotten(cut),
                               encode_json_object(object));
    fault::step("cut.marked");
}

std::vector<StoredCut> stored_cuts(const Repository& repository) {
    std::vector<StoredCut> cuts;
    const std::set<CutId> forgotten = forgotten_cuts(repository);
    for (const CutId& id : cuts_with(repository, &layout::parse_cut)) {
        const std::string object = layout::cut(id);
        try {
            const auto stored = load(repository, object, kCutProposalKind);
            if (!stored) {
                continue;
            }
            StoredCut cut;
            cut.proposal = parse_members(stored->members, repository.target().describe(object));
            if (cut.proposal.id != id) {
                throw Error::damaged(repository.target().describe(object), "it is another cut's");
            }
            cut.forgotten = forgotten.contains(id);
            cut.given_up = why_given_up(repository, id);
            cuts.push_back(std::move(cut));
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && error.status() != ExitStatus::kRefused) {
                throw;
            }
            repository.damage_sink()({object, error.message(), false});
        }
    }
    std::sort(cuts.begin(), cuts.end(), [](const StoredCut& one, const StoredCut& other) {
        return std::tie(one.proposal.created_ns, one.proposal.id) < std::tie(other.proposal.created_ns, other.proposal.id);
    });
    return cuts;
}

std::set<CutId> forgotten_cuts(const Repository& repository) {
    const std::vector<CutId> marked = cuts_with(repository, &layout::parse_cut_forgotten);
    return {marked.begin(), marked.end()};
}

}  // namespace nodesnap
