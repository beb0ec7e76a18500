#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backup/left_elsewhere.h"
#include "snapshot/backup/left_snapshot.h"
#include "snapshot/backup/run.h"

namespace nodesnap {

bool BackupRun::keeps_snapshot() const {
    return !options_.drop_snapshot && (options_.keep_snapshot || (may_stay_ && !drained_.damaged && backend_->tells_changes()));
}

Manifest BackupRun::manifest_before_drain() const {
    const RepositoryInfo& info = repository_.info();
    Manifest manifest;
    manifest.id = session_.id;
    manifest.name = session_.manifest;
    manifest.epoch = lease_.epoch();
    manifest.snapshot_time_ns = draft_ ? draft_->snapshot_time_ns : held_since_ns_.value_or(snapshot_->taken_ns());
    manifest.snapshot_duration_ns = draft_ ? draft_->snapshot_duration_ns : snapshot_->duration_ns();
    manifest.held_ns = draft_ ? draft_->held_ns : held_for_.count();
    manifest.consistency = consistency();
    manifest.host_name = host_name();
    manifest.tool_version = NODESNAP_VERSION;
    manifest.profile = draft_ ? draft_->profile : options_.profile;
    manifest.engine_version = engine_version_;
    manifest.captured = draft_ ? draft_->captured : captured_;
    manifest.excludes = excludes_.patterns();
    manifest.tags = options_.tags;
    manifest.proof = snapshot_->proof();
    if (parent_.best()) {
        manifest.parent = parent_.best()->id;
    }
    manifest.node = info.node;
    manifest.hash_seed = info.hash_seed;
    manifest.repository_created_ns = info.created_ns;
    manifest.root_ino = snapshot_->root_ino();
    manifest.cut = draft_ ? draft_->cut : cut_;
    return manifest;
}

Manifest BackupRun::manifest() const {
    Manifest manifest = manifest_before_drain();
    manifest.finished_time_ns = utc_now_ns();
    if (drained_.changed_meanwhile) {
        manifest.consistency = Consistency::kInconsistent;
    }
    manifest.damaged = drained_.damaged;
    if (!keeps_snapshot()) {
        manifest.proof.path.clear();
    } else if (options_.keep_snapshot) {
        manifest.proof.path = without_temporary(manifest.proof.path);  // what retire() renames it to
    }
    manifest.tree = drained_.tree;
    manifest.root_ino = drained_.root_ino;
    manifest.packs = drained_.packs;
    manifest.pack_bytes = sizes_of(repository_, drained_.packs);
    manifest.totals = drained_.totals;
    if (!draft_) {
        manifest.avoided_packs = avoided_packs(stored_damage_);
    }
    return manifest;
}

void BackupRun::publish() {
    progress_.phase = "publishing";
    snapshot_->check(true);
    may_stay_ = snapshot_->may_stay();
    publishing_ = true;
    result_.manifest = manifest();
    fault::step("backup.before-publish");
    repository_.publish(lease_, result_.manifest);
    fault::step("backup.published");
    const Manifest::Totals& totals = drained_.totals;
    if (totals.files + totals.others == 0 && !excludes_.empty()) {
        report_.warn("the backup holds no files: the exclude patterns leave none, or the node directory has none");
    }
}

void BackupRun::retire() {
    progress_.phase = "retiring the snapshot";
    result_.backend = backend_->name();
    result_.backend_reason = backend_->reason();
    result_.parent_missing = parent_.missing;
    result_.io_fallback_reason = drained_.io_fallback_reason;
    result_.audited_bytes = drained_.audited_bytes;
    result_.audited_all = options_.audit && parent_.missing.empty();
    result_.resumed_bytes = drained_.resumed_bytes;
    try {
        if (options_.keep_snapshot) {
            snapshot_->keep_for_operator();
        } else if (keeps_snapshot()) {
            snapshot_->keep();
        } else {
            snapshot_->remove();
        }
        result_.snapshot_path = keeps_snapshot() ? snapshot_->entry().path : "";
        fault::step("backup.snapshot-retired");
        remove_older_parents();
        fault::step("backup.parents-removed");
        repository_.end_session(session_.id);
        fault::step("backup.session-ended");
        lease_.release();
    } catch (const Error& error) {
        report_.warn("the backup is complete, but " + error.message());
    }
}

void BackupRun::remove_older_parents() {
    if (drained_.damaged) {
        return;  // the next backup needs the last good one's
    }
    parent_.snapshot.reset();
    drop_older_parents(repository_, *backend_, session_.id);
    remove_parent_elsewhere(repository_, *backend_, session_.id, report_);
}

}  // namespace nodesnap
