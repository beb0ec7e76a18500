// The part of Repository that publishes backups and clears up after those that didn't come so far.
//
// Who published and who gave up is decided by one name: that of the session's manifest, made by create-if-absent. Either the backup makes
// it, or who clears up after it makes the VOID object there. Packs are removed only after that object is durable, so that a writer that
// wakes late, at whatever point, can't publish a backup whose packs are gone. A session of a later epoch than the lease's is never touched:
// then it is we who slept.
#include <algorithm>
#include <set>

#include "io/target/object_name.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {
namespace {

constexpr std::string_view kKind = "session";
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kMarkLifeSeconds = 30 * 24 * 3600;

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
    return session;
}

// What has a session's manifest's name. Error::damaged if that can't be told: then nothing of the session may be removed.
enum class Held { kNothing, kPublished, kMark, kForeign };

Held holder_of_name(Target& target, const Uuid& repository, const layout::ManifestName& name, const SessionId& session) {
    const auto stored = load_manifest(target, layout::manifest(name), repository, [](const Damage&) {});
    if (!stored) {
        return Held::kNothing;
    }
    if (!*stored) {
        return Held::kMark;
    }
    return (*stored)->id == session ? Held::kPublished : Held::kForeign;
}

std::string two_digits(unsigned value) {
    return {"0123456789abcdef"[value >> 4], "0123456789abcdef"[value & 15]};
}

}  // namespace

void Repository::begin_session(const Lease& lease, const SessionRecord& session) {
    require_writable();
    lease.check();
    const std::string object = layout::session(session.id);
    const auto present = target_->load(object, kJsonObjectLimit);
    const auto expected = present ? std::optional(present->version) : std::nullopt;
    if (!target_->swap(object, expected, encode_session(info_.uuid, session))) {
        throw Error::locked(target_->describe(object) + " was changed by another", "run the backup again");
    }
    fault::step("session.begun");
}

void Repository::end_session(const SessionId& session) {
    target_->remove(layout::session(session));
}

std::vector<SessionRecord> Repository::sessions() const {
    std::vector<SessionId> ids;
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        if (const auto id = layout::parse_session(entry.name)) {
            ids.push_back(*id);
        }
    });
    std::vector<SessionRecord> found;
    for (const SessionId& id : ids) {
        const std::string object = layout::session(id);
        try {
            if (const auto stored = target_->load(object, kJsonObjectLimit)) {
                found.push_back(decode_session(stored->content, id, target_->describe(object), info_.uuid));
            }
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged) {
                throw;
            }
            // Without its manifest's name nothing of it can be removed safely.
            sink_({object, error.message(), false});
        }
    }
    return found;
}

void Repository::publish(const Lease& lease, const Manifest& manifest) {
    require_writable();
    const Bytes object = encode_manifest(info_.uuid, manifest);
    const std::string name = layout::manifest(manifest.name);
    lease.check();
    fault::step("publish.checked");
    const bool created = target_->create(name, object);
    if (!created && holder_of_name(*target_, info_.uuid, manifest.name, manifest.id) != Held::kPublished) {
        throw Error::locked("the backup was given up by another process, which took the lock of " + target_->describe() + " over",
                            "this process was stopped or cut off for longer than its lease; run the backup again");
    }
    fault::step("publish.done");
}

std::size_t Repository::clear_sessions(const Lease& lease, const SnapshotRemover& remove_snapshot) {
    require_writable();
    lease.check();
    std::vector<SessionRecord> dead = sessions();
    std::erase_if(dead, [&](const SessionRecord& session) { return session.epoch >= lease.epoch(); });
    if (dead.empty()) {
        return 0;
    }
    // A session whose backup is there under another revision, or which another backup rests on, had finished.
    std::set<SessionId> finished;
    for_each_backup([&](const BackupEntry& entry) {
        if (entry.manifest) {
            finished.insert(entry.manifest->id);
            if (entry.manifest->parent) {
                finished.insert(*entry.manifest->parent);
            }
        }
    });
    std::size_t given_up = 0;
    for (const SessionRecord& session : dead) {
        if (!finished.contains(session.id) && clear_session(lease, session, remove_snapshot)) {
            ++given_up;
        } else if (finished.contains(session.id)) {
            lease.check();
            end_finished(session, remove_snapshot);
        }
    }
    return given_up;
}

bool Repository::abandon_session(const Lease& lease, const SessionRecord& session) {
    require_writable();
    return clear_session(lease, session, {});
}

void Repository::end_finished(const SessionRecord& session, const SnapshotRemover& remove_snapshot) {
    // The manifest says whether its snapshot was meant to stay.
    const auto stored = load_manifest(*target_, layout::manifest(session.manifest), info_.uuid, sink_);
    const auto manifest = stored ? *stored : std::nullopt;
    if (manifest && manifest->id == session.id && manifest->proof.path.empty() && remove_snapshot && session.host == host_name()) {
        remove_snapshot(session);
    }
    end_session(session.id);
}

bool Repository::clear_session(const Lease& lease, const SessionRecord& session, const SnapshotRemover& remove_snapshot) {
    lease.check();
    const std::string manifest = layout::manifest(session.manifest);
    if (!target_->create(manifest, encode_void_manifest(info_.uuid, session.id, session.manifest.revision))) {
        try {
            switch (holder_of_name(*target_, info_.uuid, session.manifest, session.id)) {
                case Held::kPublished:
                    end_finished(session, remove_snapshot);
                    return false;
                case Held::kMark:
                    break;
                case Held::kNothing:  // the name is taken, but what has it can't be seen: nothing may be removed on such grounds
                case Held::kForeign:
                    throw Error::failed("cannot tell what became of session " + session.id.hex() + ": " + target_->describe(manifest) +
                                            " is there, but isn't its manifest or mark",
                                        "run it again; if this stays, run `nodesnap verify`");
            }
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged) {
                throw;
            }
            sink_({manifest, error.message(), false});
            return false;
        }
    }
    fault::step("session.void-created");
    remove_packs_of(session.id);
    fault::step("session.packs-removed");
    forget_session(session, remove_snapshot);
    fault::step("session.cleared");
    return true;
}

void Repository::forget_session(const SessionRecord& session, const SnapshotRemover& remove_snapshot) {
    SessionRecord remains = session;
    if (session.host == host_name() && remove_snapshot) {
        remove_snapshot(session);
        remains.snapshot_path.clear();
    }
    // Makes the removals durable before the session that knows of them is forgotten.
    const std::string object = layout::session(session.id);
    const auto stored = target_->load(object, kJsonObjectLimit);
    if (stored && !target_->swap(object, stored->version, encode_session(info_.uuid, remains))) {
        throw Error::locked(target_->describe(object) + " was changed by another", "run it again");
    }
    // A snapshot on another host is for that host to remove, when it backs up again; after a while nobody expects it.
    const bool elsewhere = !remains.snapshot_path.empty() && session.host != host_name();
    if (!elsewhere || utc_now_ns() / kSecondNs > session.manifest.utc_seconds + kMarkLifeSeconds) {
        end_session(session.id);
    }
}

void Repository::remove_packs_of(const SessionId& session) {
    const std::string digits = session.hex();
    // Parts first: a writer that still runs can't turn them into packs any more.
    for (unsigned counter = 0; counter < 256; ++counter) {
        target_->abandon(two_digits(counter) + digits);
    }
    for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
        for (unsigned counter = 0; counter < 256; ++counter) {
            const std::string first = two_digits(counter);
            std::vector<std::string> packs;
            target_->list(std::string(folder) + first + "/" + first + digits, [&](const ObjectEntry& entry) {
                const auto name = layout::parse_pack(entry.name);
                if (name && name->id.session() == session) {
                    packs.push_back(entry.name);
                }
            });
            for (const std::string& pack : packs) {
                target_->remove(pack);
            }
        }
    }
}

}  // namespace nodesnap
