// The part of Repository that publishes backups and clears up after those that didn't come so far.
//
// Who published and who gave up is decided by one name: that of the session's manifest, made by create-if-absent. Either the backup makes
// it, or who clears up after it makes the VOID object there. Packs are removed only after that object is durable, so that a writer that
// wakes late, at whatever point, can't publish a backup whose packs are gone. A session of a later epoch than the lease's is never touched:
// then it is we who slept.
#include <algorithm>
#include <map>

#include "io/target/object_name.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/session_record.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
// How long a session is remembered for a snapshot that is on another host or on a file system that isn't mounted.
constexpr std::int64_t kOutOfReachSeconds = 30 * 24 * 3600;

// What has a session's manifest's name. Error::damaged if that can't be told: then nothing of the session may be removed.
enum class Held { kNothing, kPublished, kMark, kOthersMark, kForeign };
struct Holder {
    Held held;
    bool keeps_snapshot = false;
};

// The manifest says whether its snapshot was meant to stay.
bool keeps_snapshot(const Manifest& manifest) {
    return !manifest.proof.path.empty();
}

Holder holder_of_name(Target& target, const Uuid& repository, const layout::ManifestName& name, const SessionId& session) {
    const auto stored = load_manifest(target, layout::manifest(name), repository, [](const Damage&) {});
    if (!stored) {
        return {Held::kNothing};
    }
    if (!*stored) {
        const auto object = target.load(layout::manifest(name), kManifestObjectLimit);
        const auto marked = object ? session_of_mark(object->content, layout::manifest(name), repository) : std::nullopt;
        return {marked && *marked != session ? Held::kOthersMark : Held::kMark};
    }
    return {(*stored)->id == session ? Held::kPublished : Held::kForeign, keeps_snapshot(**stored)};
}

// Whether nothing is left of the session's snapshot, or nobody expects that any more.
bool snapshot_is_gone(const SessionRecord& session, const Repository::SnapshotRemover& remove_snapshot) {
    if (session.snapshot_backend == "none" && session.snapshot_path.empty()) {
        return true;
    }
    const bool here = session.host == host_name();
    if (here && !remove_snapshot) {
        return false;
    }
    switch (here ? remove_snapshot(session) : SnapshotRemains::kOutOfReach) {
        case SnapshotRemains::kNone:
            return true;
        case SnapshotRemains::kStuck:
            return false;
        case SnapshotRemains::kOutOfReach:
            break;
    }
    return utc_now_ns() / kSecondNs > session.manifest.utc_seconds + kOutOfReachSeconds;
}

}  // namespace

void Repository::begin_session(const Lease& lease, SessionRecord& session) {
    require_writable();
    lease.check();
    store_session(session);
    fault::step("session.begun");
}

void Repository::store_session(SessionRecord& session) {
    const std::string object = layout::session(session.id);
    const Bytes content = encode_session(info_.uuid, session);
    bool ours = target_->swap(object, session.version, content);
    if (ours) {
        const auto stored = target_->load(object, kJsonObjectLimit);
        ours = stored && stored->content == content;
        session.version = ours ? std::optional(stored->version) : std::nullopt;
    }
    if (!ours) {
        throw Error::locked(target_->describe(object) + " was changed by another", "run it again");
    }
}

void Repository::end_session(const SessionId& session) {
    remove_journal(session);
    target_->remove(layout::session(session));
}

std::set<SessionId> Repository::session_ids() const {
    std::set<SessionId> ids;
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        if (const auto id = layout::parse_session(entry.name)) {
            ids.insert(*id);
        }
    });
    return ids;
}

std::vector<SessionRecord> Repository::sessions() const {
    std::vector<SessionRecord> found;
    for (const SessionId& id : session_ids()) {
        const std::string object = layout::session(id);
        try {
            if (const auto stored = target_->load(object, kJsonObjectLimit)) {
                found.push_back(decode_session(stored->content, id, target_->describe(object), info_.uuid));
                found.back().version = stored->version;
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
    if (!created && holder_of_name(*target_, info_.uuid, manifest.name, manifest.id).held != Held::kPublished) {
        throw Error::locked("the backup was given up by another process, which took the lock of " + target_->describe() + " over",
                            "this process was stopped or cut off for longer than its lease; run the backup again");
    }
    // What is there may be another's, who could write under the same session: then this backup isn't there.
    const auto stored = created ? std::nullopt : target_->load(name, kManifestObjectLimit);
    if (!created && (!stored || stored->content != object)) {
        throw Error::failed(target_->describe(name) + " is another backup, under the name and the id of this one",
                            "look who else has the key with which this host reaches the repository; run the backup again");
    }
    fault::step("publish.done");
}

std::size_t Repository::clear_sessions(const Lease& lease, const SnapshotRemover& remove_snapshot, const std::optional<SessionId>& spared) {
    require_writable();
    lease.check();
    sweep_journal();
    std::vector<SessionRecord> dead = sessions();
    std::erase_if(dead, [&](const SessionRecord& session) { return session.epoch >= lease.epoch(); });
    if (dead.empty()) {
        return 0;
    }
    // A session whose backup is there under another revision, or which another backup rests on, had finished.
    std::map<SessionId, bool> finished;  // whether they keep their snapshot; one whose manifest is gone may
    std::vector<BackupEntry> unreadable;
    for_each_backup([&](const BackupEntry& entry) {
        if (!entry.manifest) {
            unreadable.push_back(entry);
            return;
        }
        finished[entry.manifest->id] = keeps_snapshot(*entry.manifest);
        if (keeps_receipts_) {
            return;  // by what another backup says nothing is finished, since anybody may have said it; and no packs are removed
        }
        if (entry.manifest->parent) {
            finished.try_emplace(*entry.manifest->parent, true);
        }
        for (const PackId& pack : entry.manifest->packs) {
            finished.try_emplace(pack.session(), true);
        }
    });
    std::size_t cleared = 0;
    for (SessionRecord& session : dead) {
        if (const auto found = finished.find(session.id); found != finished.end()) {
            lease.check();
            cleared += end_finished(session, found->second, remove_snapshot) ? 1 : 0;
            continue;
        }
        // What can't be read may be this session's manifest in a later revision: then nothing of it may be removed.
        const auto damaged = std::find_if(unreadable.begin(), unreadable.end(),
                                          [&](const BackupEntry& entry) { return entry.name.same_backup(session.manifest); });
        if (damaged != unreadable.end()) {
            sink_({damaged->object, damaged->damage, false});
            continue;
        }
        const bool spare = remove_snapshot ? session.id == spared : true;
        if (spare && can_be_resumed(session) && suspend_session(lease, session, true)) {
            continue;
        }
        cleared += clear_session(lease, session, remove_snapshot).wholly ? 1 : 0;
    }
    return cleared;
}

bool Repository::abandon_session(const Lease& lease, SessionRecord& session, const SnapshotRemover& remove_snapshot) {
    require_writable();
    return clear_session(lease, session, remove_snapshot).what == Clearing::kGivenUp;
}

bool Repository::end_finished(const SessionRecord& session, bool keeps_snapshot, const SnapshotRemover& remove_snapshot) {
    if (!keeps_snapshot && !snapshot_is_gone(session, remove_snapshot)) {
        return false;
    }
    end_session(session.id);
    return true;
}

Repository::Clearing Repository::take_name(const Lease& lease, const SessionRecord& session, bool& keeps_snapshot) {
    lease.check();
    const std::string manifest = layout::manifest(session.manifest);
    if (!target_->create(manifest, encode_void_manifest(info_.uuid, session.id, session.manifest.revision))) {
        try {
            const Holder holder = holder_of_name(*target_, info_.uuid, session.manifest, session.id);
            switch (holder.held) {
                case Held::kPublished:
                    keeps_snapshot = holder.keeps_snapshot;
                    return Clearing::kPublished;
                case Held::kMark:
                    break;
                case Held::kOthersMark:  // in the place of its manifest, which was given up as lost: other backups may rest on its packs
                    return Clearing::kUnknown;
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
            return Clearing::kUnknown;
        }
    }
    fault::step("session.void-created");
    // The name may have been free because a repair has moved the manifest to its next revision, while whoever runs this slept.
    lease.check();
    return has_later_revision(session.manifest) ? Clearing::kUnknown : Clearing::kGivenUp;
}

Repository::Cleared Repository::clear_session(const Lease& lease, SessionRecord& session, const SnapshotRemover& remove_snapshot) {
    bool keeps_snapshot = false;
    const Clearing what = take_name(lease, session, keeps_snapshot);
    if (what == Clearing::kPublished) {
        return {what, end_finished(session, keeps_snapshot, remove_snapshot)};
    }
    if (what == Clearing::kUnknown) {
        return {what, false};
    }
    // Either this comes first, or a resume does: from here on the session's things are nobody's.
    if (!session.condemned) {
        session.condemned = true;
        store_session(session);
    }
    fault::step("session.condemned");
    remove_journal(session.id);
    remove_packs_of(session.id);
    fault::step("session.packs-removed");
    const bool wholly = forget_session(session, remove_snapshot);
    fault::step("session.cleared");
    return {Clearing::kGivenUp, wholly};
}

bool Repository::has_later_revision(const layout::ManifestName& name) const {
    bool found = false;
    target_->list(layout::kBackups, [&](const ObjectEntry& entry) {
        const auto other = layout::parse_manifest(entry.name);
        found = found || (other && other->same_backup(name) && other->revision > name.revision);
    });
    return found;
}

bool Repository::forget_session(SessionRecord& session, const SnapshotRemover& remove_snapshot) {
    if (!snapshot_is_gone(session, remove_snapshot)) {
        return false;
    }
    fault::step("session.snapshot-removed");
    // Makes the removals of packs durable before the session that knows of them is forgotten.
    session.snapshot_path.clear();
    store_session(session);
    end_session(session.id);
    return true;
}

std::vector<std::string> Repository::pack_objects_of(const SessionId& session) const {
    const std::string digits = session.hex();
    std::vector<std::string> packs;
    for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
        for (unsigned counter = 0; counter < 256; ++counter) {
            const std::string first = two_digits(counter);
            const std::string prefix = std::string(folder).append(first).append("/").append(first).append(digits);
            target_->list(prefix, [&](const ObjectEntry& entry) {
                const auto name = layout::parse_pack(entry.name);
                if (name && name->id.session() == session) {
                    packs.push_back(entry.name);
                }
            });
        }
    }
    return packs;
}

void Repository::abandon_parts(const std::function<bool(const PackId&)>& given_up) {
    target_->abandon([&](std::string_view staging_id) {
        const auto pack = PackId::parse(staging_id.substr(0, 2 * sizeof(PackId::bytes)));
        return pack && given_up(*pack);
    });
}

void Repository::remove_packs_of(const SessionId& session) {
    // Parts first: a writer that still runs can't turn them into packs any more.
    abandon_parts([&](const PackId& pack) { return pack.session() == session; });
    if (keeps_receipts_) {
        return;  // whoever wrote the session object may have meant another backup's: prune finds those that nobody needs
    }
    for (const std::string& pack : pack_objects_of(session)) {
        target_->remove(pack);
    }
}

}  // namespace nodesnap
