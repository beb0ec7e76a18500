#include "snapshot/backup.h"

#include "platform/clock.h"
#include "platform/error.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backup/run.h"
#include "snapshot/rollback.h"

namespace nodesnap {

BackupResult BackupRun::run() {
    repository_.refresh(lease_);  // it may have got its node while we waited for the lease
    find_unfinished();
    require_wanted_draft();
    if (holds()) {
        refuse_futile_hold(hold_options(), excludes_);
    }
    if (options_.gates != nullptr) {
        if (!draft_) {
            refuse_as_part();
        }
        options_.gates->asked(repository_, lease_);
    } else if (!draft_ && !options_.no_resume) {
        refuse_to_clear_part();
    }
    identify();
    clear_up();
    require_wanted_draft();
    ask_version();
    if (!draft_) {
        const std::string dropped = make_room();
        parent_ = options_.full ? no_parent() : find_parent(repository_, *backend_);
        if (parent_.unknown_ones && parent_.best()) {
            report_.warn("there are backups in " + repository_.target().describe() +
                         " that this host doesn't remember having made: they are passed over");
        }
        if (parent_.unknown_ones && !parent_.best()) {
            report_.warn("everything is stored anew, since " + parent_.missing + " (" + options_.state_directory +
                         " was lost, or the repository was used by others)");
        }
        if (parent_.compared && !parent_.changed_since && !dropped.empty()) {
            parent_.missing = dropped;
        }
    }
    look_for_stored_damage();
    if (holds() && !pre_copies()) {
        hold_.emplace(hold_options(), excludes_);
    }
    begin();
    try {
        take_snapshot();
        store_part();
        drain();
        publish();
    } catch (const SpoiltSnapshot&) {
        is_spoilt_ = true;
        end_after_failure(false);
        throw;
    } catch (const Error& error) {
        end_after_failure(is_space_error(error.error_number()));
        throw;
    } catch (...) {
        end_after_failure(false);
        throw;
    }
    retire();
    result_.total_time = std::chrono::nanoseconds(monotonic_ns() - started_ns_);
    return std::move(result_);
}

BackupResult run_backup(Repository& repository, const BackupOptions& options, Progress& progress, Report& report) {
    finish_rollback(options.node_directory, options.backend.snapshot_directory, report);
    return BackupRun(repository, options, progress, report).run();
}

}  // namespace nodesnap
