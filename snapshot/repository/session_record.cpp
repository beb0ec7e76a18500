#include "snapshot/repository/session_record.h"

#include <algorithm>
#include <array>
#include <limits>

#include "platform/error.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {
namespace {

constexpr std::string_view kKind = "session";
constexpr std::array<std::string_view, 3> kModes = {"whole", "compared", "changes"};  // as DrainMode

std::uint32_t small_number(const nlohmann::ordered_json& members, const char* key, const std::string& name) {
    const std::uint64_t value = member::unsigned_integer(members, key, name);
    if (value > std::numeric_limits<std::uint32_t>::max()) {
        throw Error::damaged(name, std::string(key) + " is out of bounds");
    }
    return static_cast<std::uint32_t>(value);
}

// The first sessions ever have none of them.
void read_resume_members(const nlohmann::ordered_json& members, const std::string& name, SessionRecord& session) {
    if (!members.contains("mode")) {
        return;
    }
    session.suspended = member::boolean(members, "suspended", name);
    session.condemned = member::boolean(members, "condemned", name);
    session.first_pack = small_number(members, "first_pack", name);
    session.first_log = small_number(members, "first_log", name);
    session.stalled = small_number(members, "stalled", name);
    session.lacked_space = members.contains("lacked_space") && member::boolean(members, "lacked_space", name);
    if (members.contains("cut")) {
        session.cut = member::uuid(members, "cut", name);
    }
    const auto mode = std::find(kModes.begin(), kModes.end(), member::text(members, "mode", name));
    if (mode == kModes.end()) {
        throw Error::damaged(name, "its mode is unknown");
    }
    session.mode = static_cast<DrainMode>(mode - kModes.begin());
}

}  // namespace

Bytes encode_session(const Uuid& repository, const SessionRecord& session) {
    JsonObject object;
    object.kind = kKind;
    object.repository = repository;
    object.members["id"] = session.id.hex();
    object.members["manifest"] = layout::manifest(session.manifest);
    object.members["epoch"] = session.epoch;
    object.members["host"] = session.host;
    object.members["snapshot_path"] = member::from_path(session.snapshot_path);
    object.members["snapshot_backend"] = session.snapshot_backend;
    object.members["suspended"] = session.suspended;
    object.members["condemned"] = session.condemned;
    object.members["first_pack"] = session.first_pack;
    object.members["first_log"] = session.first_log;
    object.members["stalled"] = session.stalled;
    object.members["lacked_space"] = session.lacked_space;
    if (session.cut) {
        object.members["cut"] = session.cut->text();
    }
    object.members["mode"] = kModes.at(static_cast<std::size_t>(session.mode));
    return encode_json_object(object);
}

SessionRecord decode_session(std::span<const std::byte> text, const SessionId& id, const std::string& name, const Uuid& repository) {
    const JsonObject object = decode_json_object(text, kKind, name, repository);
    const auto manifest = layout::parse_manifest(member::text(object.members, "manifest", name));
    if (!manifest || member::text(object.members, "id", name) != id.hex()) {
        throw Error::damaged(name, "it says another session or no manifest's name");
    }
    SessionRecord session;
    session.id = id;
    session.manifest = *manifest;
    session.epoch = member::unsigned_integer(object.members, "epoch", name);
    session.host = member::text(object.members, "host", name);
    session.snapshot_path = member::path(object.members, "snapshot_path", name);
    session.snapshot_backend = member::text(object.members, "snapshot_backend", name);
    read_resume_members(object.members, name, session);
    return session;
}

}  // namespace nodesnap
