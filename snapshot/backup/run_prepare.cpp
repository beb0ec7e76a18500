#include <set>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backup/backend_choice.h"
#include "snapshot/backup/captured.h"
#include "snapshot/backup/left_snapshot.h"
#include "snapshot/backup/run.h"
#include "snapshot/backup/unfinished.h"
#include "snapshot/engine_version.h"
#include "snapshot/repository/identity.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {

BackupRun::BackupRun(Repository& repository, const BackupOptions& options, Progress& progress, Report& report)
    : repository_(repository),
      options_(options),
      progress_(progress),
      report_(report),
      excludes_(options.excludes),
      started_ns_(monotonic_ns()),
      captured_(read_captured(options.capture)),
      backend_(preflight(repository, options, excludes_)),
      lease_(Lease::acquire(repository.target(), repository.info().uuid, options.lease)) {}

std::unique_ptr<SnapshotBackend> BackupRun::preflight(const Repository& repository, const BackupOptions& options,
                                                      const ExcludeRules& excludes) {
    repository.target().check_writable();
    return choose_backend_for(repository.target(), options, excludes);
}

hold::Options BackupRun::hold_options() const {
    hold::Options complete = options_.hold;
    complete.node_directory = resolve_path(options_.node_directory);
    complete.state_directory = options_.state_directory;
    return complete;
}

void BackupRun::refuse_as_part() const {
    if (backend_->name() == "none") {
        throw Error::refused(
            "a part of a cluster backup needs a snapshot, and " + options_.node_directory + " can't have one: " + backend_->reason(),
            "`nodesnap doctor` tells what its storage offers");
    }
    if (const auto session = unfinished_part()) {
        const std::string cut = session->cut->text();
        throw Error::refused(
            "the cluster backup " + cut + " isn't finished: a part of it is in " + repository_.target().describe(),
            "`nodesnap cluster backup --finish " + cut + "` goes on with it; `nodesnap cluster forget " + cut + "` gives it up");
    }
}

std::optional<SessionRecord> BackupRun::unfinished_part() const {
    const std::set<SessionId> unfinished = repository_.unfinished_sessions();
    const auto marked = [this](const std::string& object) { return repository_.target().load(object, kJsonObjectLimit).has_value(); };
    for (const SessionRecord& session : repository_.sessions()) {
        if (session.cut && repository_.made_here(session) && session.epoch < lease_.epoch() && unfinished.contains(session.id) &&
            repository_.can_be_resumed(session) && !marked(layout::cut_given_up(*session.cut)) &&
            !marked(layout::cut_forgotten(*session.cut))) {
            return session;
        }
    }
    return std::nullopt;
}

void BackupRun::refuse_to_clear_part() const {
    const auto session = unfinished_part();
    if (session && session->host == host_name()) {
        throw Error::refused("a part of the cluster backup " + session->cut->text() + ", which isn't finished, would be lost: " +
                                 (result_.resume_refused.empty() ? "it can't be gone on with" : result_.resume_refused),
                             "`nodesnap cluster backup --finish` goes on with it; --no-resume gives it up");
    }
}

void BackupRun::require_wanted_draft() const {
    if (options_.resume_only && !draft_) {
        throw Error::failed("backup " + options_.resume_only->hex() + " can't be gone on with: " +
                                (result_.resume_refused.empty() ? "nothing of it is left" : result_.resume_refused),
                            "take a new backup");
    }
}

void BackupRun::find_unfinished() {
    UnfinishedBackup unfinished = nodesnap::find_unfinished(repository_, lease_, *backend_, excludes_, options_);
    result_.resume_refused = std::move(unfinished.refused);
    draft_ = std::move(unfinished.draft);
    session_ = unfinished.session;
    snapshot_ = std::move(unfinished.snapshot);
    parent_ = std::move(unfinished.parent);
}

void BackupRun::identify() {
    const auto identity = resolve_identity(repository_.info(), options_.state_directory, machine_id(), backend_->file_system_uuid(),
                                           resolve_path(options_.node_directory), options_.adopt_node);
    if (!(identity == repository_.info().node)) {
        repository_.set_node(lease_, identity);
    }
}

void BackupRun::clear_up() {
    progress_.phase = "clearing up after an unfinished backup";
    result_.cleared_sessions = repository_.clear_sessions(
        lease_, [this](const SessionRecord& left) { return remove_snapshot_left_by(left, repository_, *backend_, report_); },
        draft_ ? std::optional(draft_->id) : std::nullopt);
    journal_begun_ = draft_ && take_over_unfinished(repository_, session_);
    if (draft_ && !journal_begun_) {
        result_.resume_refused = "it cannot be told what became of it";
        draft_.reset();
        snapshot_.reset();
        parent_ = {};
    }
}

std::string BackupRun::make_room() {
    std::string dropped = backend_->make_room();
    if (!dropped.empty()) {
        report_.warn(dropped);
    }
    return dropped;
}

void BackupRun::ask_version() {
    if (draft_) {
        engine_version_ = draft_->engine_version;
    } else if (!options_.version_command.empty()) {
        const EngineAnswer answer = ask_engine_version(options_.version_command, options_.node_directory);
        engine_version_ = answer.version.text;
        if (!answer.version.known() && !answer.not_installed) {
            report_.warn("the engine's version isn't known, so that no restore of this backup can refuse an older one: " + answer.problem +
                         " (" + options_.version_command + ")");
        }
    }
}

void BackupRun::look_for_stored_damage() {
    const Manifest* parent = parent_.best() ? &*parent_.best() : nullptr;
    const PackStock stock = take_stock_for_backup(repository_, lease_, parent, draft_.has_value(), report_);
    stored_damage_ = find_stored_damage(repository_, stock, parent);
    if (stored_damage_.needed.empty()) {
        return;
    }
    const std::string what = stored_damage_.reason();
    if (draft_) {
        report_.warn(what + " (" + stored_damage_.example +
                     "), and this one, which was begun before, does so too: the next backup stores anew what the node still has of it");
        return;
    }
    report_.warn(what + " (" + stored_damage_.example +
                 "): everything is read, and what the node still has of it is stored anew; `nodesnap verify --data` "
                 "tells which files of the earlier backups are affected");
    parent_.compare_only(what);
}

void BackupRun::begin() {
    if (draft_) {
        result_.resumed = true;
        parent_.compare_blocks(*backend_, snapshot_.get());
        if (session_.mode == DrainMode::kChanges && !parent_.changed_since) {
            session_.mode = DrainMode::kCompared;  // what is logged is what has changed, and right whoever goes on
        }
        repository_.resume_session(lease_, session_, {repository_.next_sequence(), utc_now_ns() / 1'000'000'000, 0});
        return;
    }
    session_ = {};
    session_.id = SessionId::random();
    session_.manifest = {repository_.next_sequence(), utc_now_ns() / 1'000'000'000, 0};
    session_.epoch = lease_.epoch();
    session_.host = host_name();
    session_.snapshot_backend = backend_->name();
    repository_.begin_session(lease_, session_);
    fault::step("backup.session-begun");
}

}  // namespace nodesnap
