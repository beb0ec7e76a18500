#include <exception>

#include "platform/error.h"
#include "snapshot/backup/run.h"

namespace nodesnap {

void BackupRun::end_after_failure(bool lacked_space) {
    // Who took the lease over has removed the snapshot and the packs from under this backup: that is what failed, not what it ran into.
    if (options_.gates != nullptr) {
        options_.gates->disarmed();
    }
    throw_if_taken_over();
    if (options_.gates != nullptr) {
        options_.gates->failing();
    }
    // Nor is it a fault of what was taken if it only waited.
    session_.lacked_space = lacked_space || (session_.cut && !drain_begun_);
    const std::optional<Error> lost = flaw_of_snapshot();
    if (lost || !suspend()) {
        abandon();
    }
    if (lost) {
        make_room_after_failure();
        throw Error(*lost);  // and not what it led to
    }
}

void BackupRun::make_room_after_failure() {
    parent_.snapshot.reset();
    try {
        make_room();
    } catch (const Error& error) {
        report_.warn("the snapshots of earlier backups stay: " + error.message());
    }
}

std::optional<Error> BackupRun::flaw_of_snapshot() const {
    try {
        if (snapshot_) {
            snapshot_->check(true);
        }
        return std::nullopt;
    } catch (const Error& error) {
        return error;
    }
}

void BackupRun::throw_if_taken_over() {
    try {
        lease_.check();
    } catch (const Error& error) {
        if (error.status() == ExitStatus::kLocked) {
            throw;
        }
    }
}

bool BackupRun::suspend() noexcept {
    if (!journal_begun_ || !snapshot_ || is_spoilt_) {
        return false;
    }
    try {
        if ((!session_.cut && repository_.logged_packs(session_).empty()) || !repository_.suspend_session(lease_, session_, publishing_)) {
            return false;
        }
        report_.warn("what is stored so far stays, and so does the snapshot " + snapshot_->entry().path +
                     ": the same backup, run again, goes on from there (or begins anew with --no-resume)");
    } catch (const std::exception& error) {
        try {
            report_.warn("it could not be noted what is stored so far; the next backup finds out: " + std::string(error.what()));
        } catch (...) {  // out of memory: the failure itself is being reported
        }
    }
    return true;
}

void BackupRun::abandon() noexcept {
    try {
        const bool given_up = repository_.abandon_session(lease_, session_, [this](const SessionRecord&) { return remove_own_snapshot(); });
        if (!given_up) {
            keep_snapshot_if_promised();
        }
    } catch (const std::exception& error) {
        keep_snapshot_if_promised();
        try {
            report_.warn("remains of the failed backup " + session_.id.hex() +
                         " are left for the next backup to clear up: " + error.what());
        } catch (...) {  // out of memory: the failure itself is being reported
        }
    }
}

SnapshotRemains BackupRun::remove_own_snapshot() {
    try {
        if (snapshot_) {
            snapshot_->remove();
        } else {
            backend_->remove_temporary(snapshot_name(session_.id));  // taken perhaps, but not to be used
        }
        return SnapshotRemains::kNone;
    } catch (const Error& error) {
        report_.warn("the failed backup's snapshot is left for the next backup to remove: " + error.message());
        return SnapshotRemains::kStuck;
    }
}

void BackupRun::keep_snapshot_if_promised() noexcept {
    if (!keeps_snapshot() || !snapshot_) {
        return;
    }
    snapshot_->keep();
    try {
        if (options_.keep_snapshot) {
            snapshot_->keep_for_operator();
        }
    } catch (const std::exception&) {  // it is there, under the name of a backup's own
    }
}

}  // namespace nodesnap
