#include "snapshot/backup/unfinished.h"

#include <set>
#include <vector>

#include "platform/host.h"
#include "snapshot/drain/earlier_drain.h"

namespace nodesnap {
namespace {

// Opens its snapshot and finds what it builds on. Tells why it can't be gone on with; empty if it can.
std::string open(UnfinishedBackup& unfinished, const Repository& repository, SnapshotBackend& backend, const ExcludeRules& excludes) {
    const SessionRecord& session = unfinished.session;
    const Manifest& draft = *unfinished.draft;
    BackupParent& parent = unfinished.parent;
    if (!repository.made_here(session)) {
        return "this host doesn't remember having begun it";
    }
    if (session.host != host_name() || session.snapshot_backend != backend.name()) {
        return "its snapshot is on another host, or of another kind";
    }
    if (draft.excludes != excludes.patterns()) {
        return "other names are excluded now";
    }
    unfinished.snapshot = backend.find(snapshot_name(repository, session.id), draft.proof);
    if (!unfinished.snapshot || unfinished.snapshot->root_ino() != draft.root_ino) {
        return "its snapshot is gone, or is not what it was";
    }
    if (session.mode == DrainMode::kWhole) {
        parent.missing = "there was no backup to build on when it began";
        return flaw_of_logs(repository, session);
    }
    if (draft.parent) {
        parent = find_parent(repository, backend, draft.parent, unfinished.snapshot.get());
    }
    if (!parent.compared) {
        return "the backup that it builds on is gone";
    }
    if (session.mode == DrainMode::kCompared) {
        parent.compare_only("contents were compared when it began");
    } else if (!parent.changed_since) {
        unfinished.session.mode = DrainMode::kCompared;  // what is logged is what has changed, and right whoever goes on
    }
    return flaw_of_logs(repository, session);
}

}  // namespace

UnfinishedBackup find_unfinished(const Repository& repository, const Lease& lease, SnapshotBackend& backend, const ExcludeRules& excludes,
                                 const BackupOptions& options) {
    std::string refused;
    const std::set<SessionId> unfinished = repository.unfinished_sessions();
    const auto wanted = [&](const SessionRecord& session) { return !options.resume_only || session.id == *options.resume_only; };
    for (const SessionRecord& session : backend.name() == "none" ? std::vector<SessionRecord>{} : repository.sessions()) {
        if (session.epoch >= lease.epoch() || !unfinished.contains(session.id) || !wanted(session)) {
            continue;
        }
        if (!repository.can_be_resumed(session)) {
            if (refused.empty() && repository.logged_packs(session).empty()) {
                refused = "it had not got to its first checkpoint, nothing of it was kept";
            }
            continue;
        }
        UnfinishedBackup found;
        found.session = session;
        found.draft = repository.load_draft(session.id);
        if (!found.draft) {
            refused = "what was known of it cannot be read";
        } else if (options.no_resume) {
            refused = "--no-resume was given";
        } else if (options.full && session.mode != DrainMode::kWhole) {
            refused = "it builds on an earlier backup, and --full was given";
        } else {
            refused = open(found, repository, backend, excludes);
        }
        if (refused.empty()) {
            return found;
        }
    }
    UnfinishedBackup none;
    none.refused = std::move(refused);
    return none;
}

bool take_over_unfinished(const Repository& repository, SessionRecord& session) {
    for (const SessionRecord& stored : repository.sessions()) {
        if (stored.id == session.id && stored.suspended) {
            const DrainMode mode = session.mode;
            session = stored;
            session.mode = mode;
            return true;
        }
    }
    return false;
}

}  // namespace nodesnap
