#include "snapshot/backup/backend_choice.h"

#include "platform/error.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/overlap.h"
#include "snapshot/restore/place.h"

namespace nodesnap {

std::unique_ptr<SnapshotBackend> choose_backend_for(const Target& target, const BackupOptions& options, const ExcludeRules& excludes) {
    const bool holds = options.hold.mode != hold::Mode::kNone;
    BackendOptions backend_options = options.backend;
    backend_options.held = holds;
    auto backend = choose_backend(options.node_directory, excludes, backend_options);
    if (holds && backend->name() == "none") {
        throw Error::refused("--hold needs a snapshot to take while the daemon is held, and there is none to be had (" + backend->reason() +
                                 "): the daemon would have to be held until all is read",
                             "stop it yourself before the backup, start it afterwards, and leave --hold out; or move the node to btrfs");
    }
    refuse_overlap(target, options.node_directory, excludes);
    refuse_unfinished(options.node_directory);
    refuse_nothing_left(options.node_directory, excludes);
    return backend;
}

}  // namespace nodesnap
