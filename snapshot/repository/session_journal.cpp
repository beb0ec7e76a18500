// The part of Repository that keeps unfinished backups for a resume. See docs/design.md, "Going on after an interruption".
//
// All that is decided about a session is decided by its object, which is compared and swapped from the version that the decision rests on:
// only one of two that want to resume it, or to clear it up, wins.
#include <algorithm>
#include <limits>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/repository/pack_log.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/resume_limit.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::uint32_t kStalledLimit = 3;  // what stops it may lie in its snapshot
constexpr std::size_t kBatch = 128;         // packs removed between two looks at the lease
// On a target that has less, nothing tells whether a run that couldn't note why it ended ended for another reason.
constexpr std::uint64_t kFullTargetBytes = 16U << 20;
// More packs than a run may have begun without coming to log one of them.
constexpr std::uint32_t kUnloggedPacks = 1U << 16;

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

std::vector<PackId> Repository::logged_packs(const SessionRecord& session) const {
    std::vector<PackId> packs;
    std::vector<PackId> small;  // marks perhaps
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        const auto pack = layout::parse_pack_log(entry.name);
        if (pack && pack->session() == session.id && pack->counter() >= session.first_log) {
            (entry.size == kPackLogMarkBytes ? small : packs).push_back(*pack);
        }
    });
    for (const PackId& pack : small) {
        const std::string object = layout::pack_log(pack);
        const auto stored = target_->load(object, kPackLogMarkBytes);
        if (stored && stored->content != encode_pack_log_mark(info_.uuid, pack)) {
            packs.push_back(pack);
        }
    }
    return packs;
}

bool Repository::can_be_resumed(const SessionRecord& session) const {
    if (session.condemned || session.stalled >= kStalledLimit ||
        session.first_pack > std::numeric_limits<std::uint32_t>::max() - 2 * kPacksOfOneRun) {
        return false;
    }
    const auto draft = load_draft(session.id);
    return draft && utc_now_ns() / kSecondNs <= draft->snapshot_time_ns / kSecondNs + kResumableSeconds &&
           (session.cut || !logged_packs(session).empty());
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

bool Repository::holds_own_mark(const SessionRecord& session) const {
    const std::string manifest = layout::manifest(session.manifest);
    const auto object = target_->load(manifest, kManifestObjectLimit);
    return object && session_of_mark(object->content, manifest, info_.uuid) == session.id;
}

bool Repository::suspend_session(const Lease& lease, SessionRecord& session, bool may_be_published) {
    if (session.suspended) {
        return true;
    }
    lease.check();
    bool keeps_snapshot = false;
    // What is there may be a mark that can't be read, and so another's.
    if (may_be_published && (take_name(lease, session, keeps_snapshot) != Clearing::kGivenUp || !holds_own_mark(session))) {
        return false;
    }
    session.suspended = true;
    store_session(session);
    fault::step("session.suspended");
    return true;
}

void Repository::resume_session(const Lease& lease, SessionRecord& session, const layout::ManifestName& name) {
    const std::vector<PackId> logged = logged_packs(session);
    const bool advanced =
        std::any_of(logged.begin(), logged.end(), [&](const PackId& pack) { return pack.counter() >= session.first_pack; });
    // To wait for space is no fault of what is stored, however often it is tried: so neither runs nor pack numbers are counted for it.
    const auto free = target_->free_bytes();
    const bool lacked_space = session.lacked_space || (free && *free < kFullTargetBytes);
    session.stalled = advanced ? 0 : session.stalled + (lacked_space ? 0 : 1);
    if (lacked_space) {
        std::uint32_t last = std::max(session.first_pack, session.first_log);
        for (const PackId& pack : logged) {
            last = std::max(last, pack.counter());
        }
        session.first_pack = last + kUnloggedPacks;
    } else {
        session.first_pack += kPacksOfOneRun;
    }
    session.lacked_space = false;
    session.manifest = name;
    session.epoch = lease.epoch();
    session.suspended = false;
    begin_session(lease, session);
    fault::step("session.resumed");
    remove_unlogged(lease, session);
}

// What earlier runs have stored without coming to log it. Who wrote it may only be stopped: first its parts can't become packs any more,
// then no log can come, then the packs go. Packs of this run and later ones are none of ours.
void Repository::remove_unlogged(const Lease& lease, const SessionRecord& session) {
    abandon_parts([&](const PackId& pack) { return pack.session() == session.id && pack.counter() < session.first_pack; });
    std::vector<std::string> unlogged;
    const std::vector<PackId> packs = logged_packs(session);
    const std::set<PackId> logged(packs.begin(), packs.end());
    for (std::string& object : pack_objects_of(session.id)) {
        const auto name = layout::parse_pack(object);
        if (name->id.counter() >= session.first_pack || logged.contains(name->id)) {
            continue;
        }
        const bool data = name->kind == layout::PackKind::kData;
        if (data && !target_->create(layout::pack_log(name->id), encode_pack_log_mark(info_.uuid, name->id)) &&
            name->id.counter() >= session.first_log) {
            continue;  // its log has come just now, or it was marked before: then it is for the prune after this backup
        }
        unlogged.push_back(std::move(object));
    }
    fault::step("session.marked");
    if (keeps_receipts_) {
        return;  // as in remove_packs_of()
    }
    for (std::size_t first = 0; first < unlogged.size(); first += kBatch) {
        lease.check();
        for (std::size_t i = first; i < std::min(first + kBatch, unlogged.size()); ++i) {
            target_->remove(unlogged[i]);
        }
    }
}

void Repository::remove_journal(const SessionId& session) {
    std::vector<std::string> logs;
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        if (const auto pack = layout::parse_pack_log(entry.name); pack && pack->session() == session) {
            logs.push_back(entry.name);
        }
    });
    for (const std::string& log : logs) {
        target_->remove(log);
    }
    target_->remove(layout::draft(session));
}

// Logs and drafts whose session object went first: a power cut may let the removal of only one of them come true.
void Repository::sweep_journal() {
    std::set<SessionId> found;
    target_->list(layout::kJournal, [&](const ObjectEntry& entry) {
        if (const auto pack = layout::parse_pack_log(entry.name)) {
            found.insert(pack->session());
        } else if (const auto draft = layout::parse_draft(entry.name)) {
            found.insert(*draft);
        }
    });
    if (found.empty()) {
        return;
    }
    const std::set<SessionId> known = session_ids();
    for (const SessionId& session : found) {
        if (!known.contains(session)) {
            remove_journal(session);
        }
    }
}

}  // namespace nodesnap
