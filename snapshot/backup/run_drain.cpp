#include "platform/clock.h"
#include "platform/error.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backup/pre_copy.h"
#include "snapshot/backup/run.h"
#include "snapshot/scratch.h"

namespace nodesnap {

void BackupRun::drain() {
    const std::int64_t drain_started_ns = monotonic_ns();
    drain_begun_ = true;
    DrainOptions drain_options;
    drain_options.workers = options_.workers;
    drain_options.force_blocking = options_.force_blocking;
    drain_options.audits_everything = options_.audit;
    drain_options.skip_unreadable = options_.skip_unreadable;
    drain_options.source_is_live = backend_->name() == "none";
    drain_options.clones = snapshot_->clones();
    drain_options.files = snapshot_->files();
    drain_options.tolerate_changes = options_.backend.accept_inconsistent;
    drain_options.still_ours = [this] { lease_.check(); };
    drain_options.check_source = [this] { snapshot_->check(false); };
    drain_options.limit_bytes_per_second = options_.limit_bytes_per_second;
    drain_options.cap = options_.cap;
    drain_options.scratch_directory = scratch_directory_or_default(options_.scratch_directory);
    drain_options.sizes = options_.sizes;
    drain_options.first_pack = session_.first_pack;
    if (backend_->name() != "none") {
        drain_options.begin_journal = [this] { begin_journal(); };
    }
    drain_options.resumed = draft_ ? &session_ : nullptr;
    try {
        if (pre_copies()) {
            drain_in_passes(drain_options);
        } else if (!parent_.changed_since || !drain_changes(drain_options)) {
            drain_all(drain_options);
        }
    } catch (const UnlistedDirectory& error) {
        report_.warn("everything is read anew, and compared, since what is below a directory cannot be told: " + error.message());
        parent_.compare_only("a directory could not be read");
        begin_drain_anew(mode_without_changes(), drain_options);
        drain_all(drain_options);
    }
    result_.drain_time = std::chrono::nanoseconds(monotonic_ns() - drain_started_ns);
}

void BackupRun::begin_drain_anew(DrainMode mode, DrainOptions& drain_options) {
    drain_options.resumed = nullptr;
    drain_options.first_pack += kPacksOfOneDrain;
    session_.first_log = drain_options.first_pack;
    session_.mode = mode;
    repository_.begin_session(lease_, session_);
    repository_.remove_journal(session_.id);
}

bool BackupRun::drain_with(const DrainParent& parent, DrainOptions& drain_options) {
    try {
        drained_ = run_drain(snapshot_->root(), repository_, session_.id, excludes_, &parent, drain_options, progress_, report_);
        return true;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        report_.warn("everything is read and stored, since the last backup cannot be built on: " + error.message());
        parent_.compare_only("the last backup is damaged");
        parent_.compared.reset();
        begin_drain_anew(DrainMode::kWhole, drain_options);
        return false;
    }
}

bool BackupRun::has_lied(const std::string& what, DrainOptions& drain_options) {
    if (drained_.lie.empty()) {
        return false;
    }
    report_.warn(what + " (" + drained_.lie + " of " + snapshot_->entry().path +
                 "): everything is read and compared instead; please report this, with the kernel's version");
    parent_.compare_only(what);
    begin_drain_anew(mode_without_changes(), drain_options);
    return true;
}

void BackupRun::drain_all(DrainOptions& drain_options) {
    while (parent_.compared) {
        const DrainParent parent = parent_.comparison(*snapshot_, stored_damage_.packs);
        if (!drain_with(parent, drain_options)) {
            break;
        }
        if (!has_lied("a file was changed without a trace in its times", drain_options)) {
            result_.records_told = parent.records_tell;
            return;
        }
    }
    parent_.compared.reset();
    drained_ = run_drain(snapshot_->root(), repository_, session_.id, excludes_, nullptr, drain_options, progress_, report_);
}

void BackupRun::drain_in_passes(const DrainOptions& drain_options) {
    const hold::Options options = hold_options();
    PreCopy passes({snapshot_->root(), options.node_directory, excludes_, repository_, session_.id}, drain_options, progress_, report_);
    passes.warm([this](DrainOptions& first) {
        drain_all(first);
        return std::move(drained_);
    });
    hold_.emplace(options, excludes_);
    const Held held = passes.finish(*hold_, options.max_downtime);
    note_hold(held);
    require_consistency(consistency());
    held_since_ns_ = held.since_ns;
    drained_ = passes.result();
    result_.passes = passes.passes();
    result_.held_read_bytes = passes.held_read_bytes();
    result_.held_files = passes.held_files();
}

bool BackupRun::drain_changes(DrainOptions& drain_options) {
    if (!drain_with(parent_.changes(), drain_options)) {
        return false;
    }
    if (has_lied("the file system's change list was wrong", drain_options)) {
        return false;
    }
    SnapshotProof now = parent_.snapshot->proof();
    now.path = parent_.changed_since->proof.path;
    if (!(now == parent_.changed_since->proof)) {
        throw Error::failed("the snapshot of the last backup was changed while this one was made: " + parent_.snapshot->entry().path,
                            "nothing but nodesnap may touch it; run the backup again, it will read everything");
    }
    return true;
}

}  // namespace nodesnap
