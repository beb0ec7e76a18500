#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "snapshot/backup/run.h"

namespace nodesnap {

void BackupRun::take_snapshot() {
    if (draft_) {
        return;  // it is there
    }
    progress_.phase = "taking the snapshot";
    if (hold_ || options_.gates != nullptr) {
        backend_->prepare();
    }
    const SnapshotHold::Steps steps = steps_of_part();
    if (hold_) {
        HeldSnapshot taken = hold_->take(*backend_, snapshot_name(session_.id), progress_, report_, steps);
        snapshot_ = std::move(taken.snapshot);
        note_hold(taken);
    } else {
        if (steps.held) {
            steps.held();
        }
        const std::int64_t begun_ns = monotonic_ns();
        snapshot_ = backend_->create(snapshot_name(session_.id), true);
        if (steps.snapped) {
            steps.snapped(begun_ns, monotonic_ns());
        }
    }
    if (options_.gates != nullptr) {
        options_.gates->disarmed();
    }
    fault::step("backup.snapshot-taken");
    if (!pre_copies()) {
        require_consistency(consistency());
    }
    session_.snapshot_path = snapshot_->entry().path;
    if (parent_.changed_since && !parent_.tells_of(snapshot_->root_ino())) {
        parent_.compare_only("the node directory is another one than at the last backup");
    }
    progress_.phase = "finding what has changed";
    parent_.compare_blocks(*backend_, snapshot_.get());
    session_.mode = parent_.changed_since ? DrainMode::kChanges : mode_without_changes();
    repository_.begin_session(lease_, session_);
    fault::step("backup.snapshot-recorded");
}

SnapshotHold::Steps BackupRun::steps_of_part() {
    BackupGates* const gates = options_.gates;
    if (gates == nullptr) {
        return {};
    }
    progress_.phase = "waiting for the other nodes";
    const FileStatus directory = stat_path(options_.node_directory).value();
    ArmedBackup armed;
    armed.id = session_.id;
    armed.backend = backend_->name();
    armed.atomic = backend_->atomic();
    armed.device = device_of(directory);
    armed.inode = directory.stx_ino;
    if (hold_) {
        armed.held = hold_->intent().what;
        armed.stops = hold_->intent().mode != hold::Mode::kFreeze;
        armed.provable = hold_->intent().mode != hold::Mode::kHook;
        armed.limit_ns = options_.hold.max_downtime.count();
    }
    cut_ = gates->armed(
        armed, [this] { backend_->prepare(); },
        [this] {
            if (hold_) {
                hold_->let_go_now();
            }
        });
    progress_.phase = "taking the snapshot";
    return {[gates] { gates->held(); },
            [this, gates](std::int64_t begun_ns, std::int64_t ended_ns) {
                fault::step("backup.part-snapped");
                cut_->released = gates->snapped(begun_ns, ended_ns, *cut_);
            }};
}

void BackupRun::store_part() {
    if (options_.gates == nullptr) {
        return;
    }
    if (!draft_) {
        if (hold_) {
            const bool proved = result_.hold_doubt.empty() && hold_->intent().mode != hold::Mode::kHook;
            cut_->hold = proved ? CutPart::Hold::kProved : CutPart::Hold::kUnproved;
        }
        session_.cut = cut_->cut;
        repository_.begin_session(lease_, session_);
        begin_journal();
        fault::step("backup.part-stored");
    }
    progress_.phase = "waiting for its turn";
    options_.gates->stored(draft_ ? draft_->cut.value_or(CutPart()) : *cut_, draft_ ? draft_->held_ns : held_for_.count(),
                           result_.hold_doubt);
}

void BackupRun::begin_journal() {
    // From here on it is removed only by who clears the session up.
    snapshot_->keep();
    repository_.store_draft(lease_, manifest_before_drain());
    journal_begun_ = true;
}

void BackupRun::require_consistency(Consistency found) const {
    if (found > options_.needed && !options_.backend.accept_inconsistent) {
        throw Error::refused("the backup would be " + to_string(found) + ", and " + to_string(options_.needed) + " is needed" +
                                 (result_.hold_doubt.empty() ? std::string() : ": " + result_.hold_doubt),
                             "--hold keeps the daemon from writing meanwhile; --accept-inconsistent backs it up as it is");
    }
}

void BackupRun::note_hold(const Held& held) {
    held_for_ = held.downtime;
    result_.held = held.what;
    result_.hold_doubt = held.doubt;
}

Consistency BackupRun::consistency() const {
    const bool proved = hold_ && result_.hold_doubt.empty();
    return draft_ ? draft_->consistency : proved ? Consistency::kPointInTime : snapshot_->consistency();
}

}  // namespace nodesnap
