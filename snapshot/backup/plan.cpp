#include <fcntl.h>

#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/backup.h"
#include "snapshot/backup/backend_choice.h"
#include "snapshot/backup/parent.h"
#include "snapshot/backup/stored_damage.h"
#include "snapshot/drain/drain_plan.h"
#include "snapshot/scratch.h"

namespace nodesnap {

BackupPlan plan_backup(const Repository& repository, const BackupOptions& options, Progress& progress, Report& report) {
    const ExcludeRules excludes(options.excludes);
    const auto backend = choose_backend_for(repository.target(), options, excludes);
    BackupParent parent = options.full ? no_parent() : find_parent(repository, *backend);
    const FileDescriptor source = open_path(options.node_directory, O_RDONLY | O_DIRECTORY);
    if (parent.changed_since && !parent.tells_of(stat_fd(source.get()).stx_ino)) {
        parent.compare_only("the node directory is another one than at the last backup");
    }
    if (parent.best()) {
        const StoredDamage damage = find_stored_damage(repository, *parent.best());
        if (!damage.needed.empty()) {
            parent.compare_only(damage.reason());
        }
    }
    parent.compare_blocks(*backend, nullptr);
    BackupPlan plan;
    plan.backend = backend->name();
    plan.backend_reason = backend->reason();
    plan.parent_missing = parent.missing;
    if (parent.best()) {
        plan.parent = parent.best()->id;
    }
    for (const SessionRecord& session : repository.sessions()) {
        if (!options.no_resume && session.host == host_name() && repository.can_be_resumed(session)) {
            plan.resumes = session.id;
        }
    }
    progress.phase = "finding what has changed";
    sync_file_system(source.get(), options.node_directory);  // what was written is found on the storage
    DrainOptions drain_options;
    drain_options.source_is_live = true;
    drain_options.tolerate_changes = true;
    drain_options.skip_unreadable = true;
    drain_options.scratch_directory = scratch_directory_or_default(options.scratch_directory);
    std::optional<DrainParent> builds_on;
    if (parent.changed_since) {
        builds_on.emplace(parent.changes());
    }  // contents aren't compared here
    const DrainPlan drain =
        plan_drain(source.get(), repository, excludes, builds_on ? &*builds_on : nullptr, drain_options, progress, report);
    plan.files = drain.files;
    plan.read_bytes = drain.bytes;
    if (parent.changed_since || !parent.compared) {
        plan.stored_bytes = drain.bytes;
    }
    return plan;
}

}  // namespace nodesnap
