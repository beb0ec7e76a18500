#include "snapshot/backup/backend_choice.h"

#include "platform/error.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/drain/live_stamp.h"
#include "snapshot/overlap.h"
#include "snapshot/restore/place.h"

namespace nodesnap {

std::unique_ptr<SnapshotBackend> choose_backend_for(const Target& target, const BackupOptions& options, const ExcludeRules& excludes) {
    const bool holds = options.hold.mode != hold::Mode::kNone;
    BackendOptions backend_options = options.backend;
    backend_options.held = holds;
    backend_options.longest_hold_ns = holds ? options.hold.max_downtime.count() : 0;
    auto backend = choose_backend(options.node_directory, excludes, backend_options);
    if (holds && backend->name() == "none") {
        LiveStamp::refuse_unsuitable(options.node_directory);
    }
    refuse_overlap(target, options.node_directory, excludes);
    refuse_unfinished(options.node_directory);
    refuse_nothing_left(options.node_directory, excludes);
    return backend;
}

}  // namespace nodesnap
