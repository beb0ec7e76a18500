// The description of a repository, repository.json and its copy: encoding, and finding out what it says when parts are damaged. Internal to
// Repository.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "snapshot/repository/json_object.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct Description {
    RepositoryInfo info;
    std::uint64_t revision = 0;  // grows with each change: of two good copies the higher counts
    std::uint64_t ro_compat = 0;
    std::uint64_t compat = 0;
    bool operator==(const Description&) const = default;
};

Bytes encode_description(const Description& description);
Description decode_description(std::span<const std::byte> text, const std::string& name);

// One copy as it is stored. `description` is empty if there is none or it is damaged: then `damage` says why.
struct StoredDescription {
    std::string object;
    std::optional<std::string> version;  // to swap against; none: there is no such object
    std::optional<Description> description;
    std::string damage;
    int error_number = 0;  // if it could not be read
};
StoredDescription load_description_copy(Target& target, std::string_view object);

// What either copy, or else the newest readable manifest says. Damage goes to the sink.
Description load_description(Target& target, const DamageSink& sink);

// The node's identity as an object's member.
nlohmann::ordered_json node_to_json(const NodeIdentity& node);
NodeIdentity node_from_json(const nlohmann::ordered_json& json, const std::string& object);

}  // namespace nodesnap
