#include "snapshot/repository/identity.h"

#include <algorithm>

#include "io/target/directory.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFile = "nodes.json";
constexpr std::uint64_t kFileLimit = std::uint64_t{4} << 20;
constexpr int kAttempts = 100;

struct Record {
    Uuid uuid;
    NodePlace place;
};

std::vector<Record> parse_records(const Bytes& content, const std::string& name) {
    const std::string text(reinterpret_cast<const char*>(content.data()), content.size());
    const Json json = Json::parse(text, nullptr, false);
    if (!json.is_object() || member::integer(json, "version", name) != 1 || !json.contains("nodes") || !json["nodes"].is_array()) {
        throw Error::damaged(name, "not a list of nodes", "move it away and give --adopt-node at the next backup of each node");
    }
    std::vector<Record> records;
    for (const Json& node : json["nodes"]) {
        records.push_back(
            {member::uuid(node, "uuid", name),
             {member::text(node, "machine_id", name), member::text(node, "file_system_uuid", name), member::path(node, "path", name)}});
    }
    return records;
}

Bytes format_records(const std::vector<Record>& records) {
    Json json;
    json["version"] = 1;
    json["nodes"] = Json::array();
    for (const Record& record : records) {
        Json node;
        node["uuid"] = record.uuid.text();
        node["machine_id"] = record.place.machine_id;
        node["file_system_uuid"] = record.place.file_system_uuid;
        node["path"] = member::from_path(record.place.path);
        json["nodes"].push_back(node);
    }
    const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    const auto bytes = std::as_bytes(std::span(text));
    return Bytes(bytes.begin(), bytes.end());
}

std::string name_of(const NodeIdentity& node) {
    return "\"" + node.name + "\" (" + node.path + ")";
}

Error refusal(const RepositoryInfo& repository, const NodePlace& place, const std::vector<Record>& records) {
    const auto elsewhere = std::find_if(records.begin(), records.end(), [&](const Record& r) { return r.uuid == repository.node.uuid; });
    const auto here = std::find_if(records.begin(), records.end(), [&](const Record& r) { return r.place == place; });
    std::string why = "the repository belongs to node " + name_of(repository.node);
    if (here != records.end()) {
        why += ", but " + place.path + " is another node";
    } else if (elsewhere != records.end()) {
        why += ", which this host knows at " + elsewhere->place.path + " and not at " + place.path;
    } else {
        why += ", which this host doesn't know at " + place.path;
    }
    return Error::refused(
        why + "; two nodes in one repository would lose data",
        "back up to this node's own repository, or, if the node has moved here (or this host has lost its record), give --adopt-node");
}

// What the records and the repository say of the place; changes the records where they must follow.
Uuid decide(const RepositoryInfo& repository, const NodePlace& place, bool adopt, std::vector<Record>& records) {
    const auto here = std::find_if(records.begin(), records.end(), [&](const Record& r) { return r.place == place; });
    const Uuid& wanted = repository.node.uuid;
    if (wanted.is_null()) {
        if (here == records.end()) {
            records.push_back({Uuid::random(), place});
            return records.back().uuid;
        }
        return here->uuid;
    }
    if (here != records.end() && here->uuid == wanted) {
        return wanted;
    }
    if (!adopt) {
        throw refusal(repository, place, records);
    }
    // The node is here now and nowhere else: what takes its old place is another.
    std::erase_if(records, [&](const Record& r) { return r.place == place || r.uuid == wanted; });
    records.push_back({wanted, place});
    return wanted;
}

}  // namespace

bool is_place_of_other_node(const NodeIdentity& node, const std::string& state_directory, const std::string& machine_id,
                            const std::string& path) {
    if (!stat_path(state_directory)) {
        return false;
    }
    const auto state = open_directory_target(state_directory, false);
    const auto stored = state->load(kFile, kFileLimit);
    const std::vector<Record> records = stored ? parse_records(stored->content, state->describe(kFile)) : std::vector<Record>{};
    const auto there = [&](const Record& r) { return r.place.machine_id == machine_id && r.place.path == path; };
    return std::any_of(records.begin(), records.end(), there) &&
           std::none_of(records.begin(), records.end(), [&](const Record& r) { return there(r) && r.uuid == node.uuid; });
}

NodeIdentity resolve_identity(const RepositoryInfo& repository, const std::string& state_directory, const NodePlace& place, bool adopt) {
    const auto state = open_directory_target(state_directory, true);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const auto stored = state->load(kFile, kFileLimit);
        std::vector<Record> records = stored ? parse_records(stored->content, state->describe(kFile)) : std::vector<Record>{};
        const std::size_t known = records.size();
        const Uuid uuid = decide(repository, place, adopt, records);
        const bool changed = records.size() != known || (adopt && (!stored || format_records(records) != stored->content));
        if (!changed || state->swap(kFile, stored ? std::optional(stored->version) : std::nullopt, format_records(records))) {
            return {uuid, repository.node.name, place.machine_id, place.file_system_uuid, place.path};
        }
    }
    throw Error::failed(state->describe(kFile) + " keeps changing", "run it again");
}

}  // namespace nodesnap
