#include "snapshot/drain/drain.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "platform/fault.h"
#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/drain_worker.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {
namespace {

// Runs `work` on a thread of its own; what it throws becomes the drain's failure.
std::jthread start(DrainState& state, std::function<void()> work) {
    return std::jthread([&state, work = std::move(work)] {
        try {
            work();
        } catch (...) {
            state.fail(std::current_exception());
        }
    });
}

void read_source(DrainState& state, int source, std::uint64_t root_ino, const ExcludeRules& excludes, unsigned workers) {
    SourceWalk walk(source, root_ino, excludes, state.catalog, state.queue,
                    [&state](const std::string& path, const Error& error) { state.unreadable(path, error); });
    std::vector<std::jthread> threads;
    threads.reserve(workers + 1);
    try {
        threads.push_back(start(state, [&state, &walk] {
            walk.run();
            state.progress.totals_final = true;
        }));
        for (unsigned index = 0; index < workers; ++index) {
            threads.push_back(start(state, [&state, index, workers] { DrainWorker(state, index, workers).run(); }));
        }
    } catch (...) {  // no more threads: those that run must not wait for those that don't
        state.fail(std::current_exception());
    }
    threads.clear();  // joins
    state.rethrow_failure();
}

}  // namespace

DrainResult run_drain(int source, Target& target, const Uuid& repository, const Hasher& hasher, const SessionId& session,
                      const ExcludeRules& excludes, const DrainOptions& options, Progress& progress, Report& report) {
    DrainState state(target, repository, hasher, session, options, progress, report);
    DrainResult result;
    result.root_ino = stat_fd(source).stx_ino;
    progress.phase = "draining";
    read_source(state, source, result.root_ino, excludes,
                options.workers != 0 ? std::min(options.workers, kMaximumWorkers) : std::min(cpu_count(), kDefaultWorkers));
    fault::step("drain.data-durable");

    progress.phase = "storing metadata";
    NodeWriter nodes(
        target, repository, hasher, [&state] { return state.next_pack_id(); }, options.sizes.entries_per_node);
    result.tree = state.catalog.build(nodes);
    nodes.finish();
    fault::step("drain.metadata-durable");

    state.add_packs(nodes.packs());
    result.packs = state.packs();
    result.damaged = state.damaged;
    result.io_fallback_reason = state.fallback_reason();
    result.totals.files = state.files;
    result.totals.directories = state.directories;
    result.totals.others = state.others;
    result.totals.logical_bytes = state.logical_bytes;
    result.totals.data_bytes = state.data_bytes;
    result.totals.read_bytes = state.read_bytes;
    result.totals.stored_bytes = state.stored_bytes + nodes.stored_bytes();
    result.totals.unreadable_files = state.unreadable_files;
    return result;
}

}  // namespace nodesnap
