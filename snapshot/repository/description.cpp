#include "snapshot/repository/description.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "io/target/object_name.h"
#include "platform/error.h"
#include "snapshot/repository/pack_salvage.h"

namespace nodesnap {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kKind = "repository";

// The repository UUID that a manifest's header claims, in its first or second copy; decode_manifest() proves it.
std::optional<Uuid> claimed_repository(const Bytes& object, std::size_t copy_offset) {
    constexpr std::string_view kMagic = "nodesnap";
    constexpr std::size_t kUuidOffset = 16;
    Uuid uuid;
    if (object.size() < copy_offset + kUuidOffset + uuid.bytes.size() ||
        std::memcmp(object.data() + copy_offset, kMagic.data(), kMagic.size()) != 0) {
        return std::nullopt;
    }
    std::memcpy(uuid.bytes.data(), object.data() + copy_offset + kUuidOffset, uuid.bytes.size());
    return uuid;
}

Bytes salvaged_content(Target& target, const std::string& object) {
    try {
        const auto reader = target.open(object);
        if (reader == nullptr || reader->size() > kManifestObjectLimit) {
            return {};
        }
        Bytes content(reader->size());
        salvaging_read(*reader, content, 0);
        return content;
    } catch (const Error& error) {
        if (!is_media_error(error.error_number())) {
            throw;
        }
        return {};
    }
}

std::optional<Description> description_from_manifest(Target& target, const std::string& object) {
    const Bytes content = salvaged_content(target, object);
    for (const std::size_t offset : {std::size_t{0}, content.size() / 2}) {
        const auto uuid = claimed_repository(content, offset);
        if (!uuid) {
            continue;
        }
        try {
            const auto manifest = decode_manifest(content, object, *uuid, [](const Damage&) {});
            if (manifest) {
                Description description;
                description.info = {*uuid, manifest->hash_seed, manifest->repository_created_ns, manifest->node};
                description.revision = 1;
                return description;
            }
        } catch (const Error&) {
            // The other copy's header may say another UUID.
        }
    }
    return std::nullopt;
}

std::vector<std::string> manifests_newest_first(Target& target) {
    std::vector<layout::ManifestName> names;
    target.list(layout::kBackups, [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_manifest(entry.name)) {
            names.push_back(*name);
        }
    });
    std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
        return std::tie(a.sequence, a.utc_seconds, a.revision) > std::tie(b.sequence, b.utc_seconds, b.revision);
    });
    std::vector<std::string> objects;
    std::transform(names.begin(), names.end(), std::back_inserter(objects), layout::manifest);
    return objects;
}

Description rebuild(Target& target, const std::array<StoredDescription, 2>& copies, const DamageSink& sink) {
    for (const StoredDescription& copy : copies) {
        if (copy.error_number != 0 && !is_media_error(copy.error_number)) {
            throw Error::system("read", target.describe(copy.object), copy.error_number);
        }
    }
    const std::vector<std::string> manifests = manifests_newest_first(target);
    for (const std::string& object : manifests) {
        if (const auto description = description_from_manifest(target, object)) {
            for (const StoredDescription& copy : copies) {
                sink({copy.object, copy.damage + " (rebuilt from " + object + ")", true});
            }
            return *description;
        }
    }
    if (manifests.empty() && !copies[0].version && !copies[1].version) {
        throw Error::refused(target.describe() + " isn't a repository of nodesnap",
                             "check the path and that it is mounted, or make a repository with `nodesnap init`");
    }
    throw Error::damaged(target.describe(copies[0].object),
                         copies[0].damage + "; its copy: " + copies[1].damage + "; and no manifest to rebuild it from can be read");
}

}  // namespace

Json node_to_json(const NodeIdentity& node) {
    Json json = Json::object();
    json["uuid"] = node.uuid.text();
    json["name"] = member::from_path(node.name);
    json["machine_id"] = node.machine_id;
    json["file_system_uuid"] = node.file_system_uuid;
    json["path"] = member::from_path(node.path);
    return json;
}

NodeIdentity node_from_json(const Json& json, const std::string& object) {
    NodeIdentity node;
    node.uuid = member::uuid(json, "uuid", object);
    node.name = member::path(json, "name", object);
    node.machine_id = member::text(json, "machine_id", object);
    node.file_system_uuid = member::text(json, "file_system_uuid", object);
    node.path = member::path(json, "path", object);
    return node;
}

Bytes encode_description(const Description& description) {
    JsonObject object;
    object.kind = kKind;
    object.repository = description.info.uuid;
    object.ro_compat = description.ro_compat;
    object.compat = description.compat;
    object.members["format"] = 1;
    object.members["revision"] = description.revision;
    object.members["created_ns"] = description.info.created_ns;
    object.members["hash"] = "xxh3-128";
    object.members["hash_seed"] = member::to_hex64(description.info.hash_seed);
    object.members["node"] = node_to_json(description.info.node);
    return encode_json_object(object);
}

Description decode_description(std::span<const std::byte> text, const std::string& name) {
    const JsonObject object = decode_json_object(text, kKind, name);
    Description description;
    description.info.uuid = object.repository;
    description.ro_compat = object.ro_compat;
    description.compat = object.compat;
    if (member::unsigned_integer(object.members, "format", name) != 1 || member::text(object.members, "hash", name) != "xxh3-128") {
        throw Error::refused(name + " is of a format that this version of nodesnap doesn't know", "upgrade nodesnap");
    }
    description.revision = member::unsigned_integer(object.members, "revision", name);
    description.info.created_ns = member::integer(object.members, "created_ns", name);
    description.info.hash_seed = member::hex64(object.members, "hash_seed", name);
    const auto node = object.members.find("node");
    if (node == object.members.end() || !node->is_object()) {
        throw Error::damaged(name, "member \"node\" is missing");
    }
    description.info.node = node_from_json(*node, name);
    return description;
}

StoredDescription load_description_copy(Target& target, std::string_view object) {
    StoredDescription copy;
    copy.object = object;
    try {
        // More than a description may have is loaded too, so that a damaged one can be replaced.
        const auto stored = target.load_salvaging(object, kSmallObjectLimit);
        if (!stored) {
            copy.damage = "missing";
            return copy;
        }
        copy.version = stored->version;
        if (stored->error_number != 0) {
            throw Error::system("read", target.describe(object), stored->error_number);
        }
        copy.description = decode_description(stored->content, target.describe(object));
    } catch (const Error& error) {
        if (error.status() == ExitStatus::kRefused) {
            throw;
        }
        copy.damage = error.message();
        copy.error_number = error.error_number();
    }
    return copy;
}

Description load_description(Target& target, const DamageSink& sink) {
    const std::array<StoredDescription, 2> copies = {load_description_copy(target, layout::kRepository),
                                                     load_description_copy(target, layout::kRepositoryCopy)};
    const StoredDescription* best = nullptr;
    for (const StoredDescription& copy : copies) {
        if (copy.description && (best == nullptr || copy.description->revision > best->description->revision)) {
            best = &copy;
        }
    }
    if (best == nullptr) {
        return rebuild(target, copies, sink);
    }
    for (const StoredDescription& copy : copies) {
        if (!copy.description) {
            sink({copy.object, copy.damage, true});
        } else if (!(*copy.description == *best->description)) {
            sink({copy.object, "behind the other copy", true});
        }
    }
    return *best->description;
}

}  // namespace nodesnap
