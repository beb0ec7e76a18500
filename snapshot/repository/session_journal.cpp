// The part of Repository that keeps unfinished backups for a resume. See docs/design.md, "Going on after an interruption".
#include <algorithm>
#include <limits>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kResumableSeconds = 30 * 24 * 3600;

}  // namespace

void Repository::store_draft(const Lease& lease, const Manifest& draft) {
    require_writable();
    lease.check();
    const std::string object = layout::draft(draft.id);
    const auto present = target_->load(object, kManifestObjectLimit);
    const auto expected = present ? std::optional(present->version) : std::nullopt;
    if (!target_->swap(object, expected, encode_manifest(info_.uuid, draft))) {
        throw Error::locked(target_->describe(object) + " was changed by another", "run the backup again");
    }
    fault::step("journal.begun");
}

std::optional<Manifest> Repository::load_draft(const SessionId& session) const {
    try {
        auto stored = load_manifest(*target_, layout::draft(session), info_.uuid, [](const Damage&) {});
        if (stored && *stored && (*stored)->id == session) {
            return std::move(*stored);
        }
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
    }
    return std::nullopt;
}

std::vector<PackId> Repository::logged_packs(const SessionId& session) const {
    std::vector<PackId> packs;
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        if (const auto pack = layout::parse_pack_log(entry.name); pack && pack->session() == session) {
            packs.push_back(*pack);
        }
    });
    return packs;
}

bool Repository::can_be_resumed(const SessionRecord& session) const {
    if (session.first_pack > std::numeric_limits<std::uint32_t>::max() - 2 * kPacksOfOneRun) {
        return false;  // there are no numbers left for its packs
    }
    const auto draft = load_draft(session.id);
    return draft && utc_now_ns() / kSecondNs <= draft->snapshot_time_ns / kSecondNs + kResumableSeconds &&
           !logged_packs(session.id).empty();
}

std::vector<Manifest> Repository::drafts() const {
    std::vector<Manifest> found;
    for (const SessionRecord& session : sessions()) {
        if (auto draft = load_draft(session.id)) {
            found.push_back(std::move(*draft));
        }
    }
    return found;
}

void Repository::suspend_session(const Lease& lease, SessionRecord& session) {
    lease.check();
    session.suspended = true;
    store_session(session);
    fault::step("session.suspended");
}

// Of another's, which may only be stopped: it mustn't publish what it built before others removed what it builds on. False if it can't be
// kept.
bool Repository::suspend_dead(const Lease& lease, SessionRecord session) {
    bool keeps_snapshot = false;
    if (!session.suspended) {
        if (take_name(lease, session, keeps_snapshot) != Clearing::kGivenUp) {
            return false;
        }
        suspend_session(lease, session);
    }
    return true;
}

void Repository::resume_session(const Lease& lease, SessionRecord& session, const layout::ManifestName& name) {
    session.first_pack += kPacksOfOneRun;
    session.manifest = name;
    session.epoch = lease.epoch();
    session.suspended = false;
    begin_session(lease, session);
    fault::step("session.resumed");
    const std::vector<PackId> logged = logged_packs(session.id);
    remove_packs_of(session.id, {logged.begin(), logged.end()});
}

// Logs whose session object went first: a power cut may let the removal of only one of them come true.
void Repository::sweep_journal() {
    std::vector<PackId> logs;
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        if (const auto pack = layout::parse_pack_log(entry.name)) {
            logs.push_back(*pack);
        }
    });
    if (logs.empty()) {
        return;
    }
    const std::set<SessionId> known = session_ids();
    for (const PackId& log : logs) {
        if (!known.contains(log.session())) {
            target_->remove(layout::pack_log(log));
            target_->remove(layout::draft(log.session()));
        }
    }
}

void Repository::remove_journal(const SessionId& session) {
    for (const PackId& pack : logged_packs(session)) {
        target_->remove(layout::pack_log(pack));
    }
    target_->remove(layout::draft(session));
}

}  // namespace nodesnap
