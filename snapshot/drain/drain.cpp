#include "snapshot/drain/drain.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/drain/audit.h"
#include "snapshot/drain/change_scan.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/drain_worker.h"
#include "snapshot/drain/walk.h"

namespace nodesnap {
namespace {

// From the walk's thread to the workers.
class DrainSink : public SourceSink {
public:
    explicit DrainSink(DrainState& state) : state_(state) {}

    void found(std::uint64_t directory, const std::string& name, const Dirent& dirent) override {
        state_.catalog.add_dirent(directory, name, dirent);
    }
    void take(std::unique_ptr<Batch> batch) override {
        state_.check_time();
        state_.queue.push(std::move(batch));
    }
    void unreadable(const std::string& path, const Error& error) override {
        state_.unreadable(path, error);
        if (state_.earlier || (state_.parent != nullptr && state_.parent->tells_changes())) {
            throw UnlistedDirectory(error);
        }
    }
    void lost(std::uint64_t directory) override {
        Inode inode;
        inode.type = FileType::kDirectory;
        inode.damaged = true;
        state_.catalog.add_inode(directory, inode);
    }
    bool stopped() const override { return state_.queue.aborted(); }

private:
    DrainState& state_;
};

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

void read_source(DrainState& state, std::uint64_t root_ino, const ExcludeRules& excludes, unsigned workers) {
    std::vector<std::jthread> threads;
    threads.reserve(workers + 1);
    try {
        threads.push_back(start(state, [&state, root_ino, &excludes] {
            DrainSink sink(state);
            walk_source(state, root_ino, excludes, sink);
            state.progress.totals_final = true;
            state.queue.close();
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

// What the parent backup calls its owners is asked for again: names may have changed although no file has.
void refresh_owners(DrainState& state) {
    TreeCursor owners(state.repository.nodes(), state.parent->backup.tree, key::user(0));
    for (TreeEntry entry; owners.next(entry);) {
        const auto parts = key::parse(entry.key);
        const bool user = parts.kind == key::Kind::kUser;
        if (!user && parts.kind != key::Kind::kGroup) {
            break;
        }
        std::uint32_t id = 0;
        for (const char byte : parts.name) {
            id = id << 8 | static_cast<std::uint8_t>(byte);
        }
        if (const auto name = user ? user_name(id) : group_name(id)) {
            user ? state.catalog.add_user(id, *name) : state.catalog.add_group(id, *name);
        }
    }
}

unsigned worker_count(const DrainOptions& options, const Target& target) {
    return options.workers != 0 ? std::min(options.workers, kMaximumWorkers)
                                : std::min(std::max(cpu_count(), target.streams()), kDefaultWorkers);
}

bool changed_meanwhile(int source, std::uint64_t root_ino, const ExcludeRules& excludes, std::int64_t since_ns, bool tolerated) {
    const auto path = changed_since(source, root_ino, excludes, since_ns);
    if (path && !tolerated) {
        throw Error::failed("the node directory changed while it was read: " + (*path == "." ? "the directory itself" : *path),
                            "stop all that writes to it before a backup without snapshots, or keep the node on btrfs");
    }
    return path.has_value();
}

}  // namespace

DrainResult run_drain(int source, const Repository& repository, const SessionId& session, const ExcludeRules& excludes,
                      const DrainParent* parent, const DrainOptions& options, Progress& progress, Report& report) {
    DrainState state(source, repository, session, parent, options, progress, report);
    fault::step("drain.begun");
    DrainResult result;
    // Whose source somebody keeps from changing, or looks at again, needs no look afterwards.
    const bool looks_afterwards = options.source_is_live && !options.is_warm_pass && !options.all_is_read;
    const std::int64_t begun_ns = looks_afterwards ? next_stamp_ns() : 0;
    result.root_ino = options.clones != nullptr ? read_clone_origin(source, false, ".").ino : stat_fd(source).stx_ino;
    if (options.resumed != nullptr) {
        progress.phase = "reading what is stored already";
        state.earlier = std::make_unique<EarlierDrain>(repository, *options.resumed, options.scratch_directory, state.catalog,
                                                       [&state](const Inode& inode) { state.note_owner(inode.uid, inode.gid); });
        state.add_packs(state.earlier->packs());
        state.new_bytes += state.earlier->new_bytes();
        state.read_bytes += state.earlier->new_bytes();
        state.stored_bytes += state.earlier->stored_bytes();
        result.resumed_bytes = state.earlier->new_bytes();
        fault::step("drain.logs-read");
    }
    progress.phase = "draining";
    read_source(state, result.root_ino, excludes, worker_count(options, repository.target()));
    if (looks_afterwards) {
        progress.phase = "looking for changes";
        result.changed_meanwhile = changed_meanwhile(source, result.root_ino, excludes, begun_ns, options.tolerate_changes);
    }
    fault::step("drain.data-durable");

    progress.phase = "storing metadata";
    NodeWriter nodes(
        repository.target(), repository.info().uuid, repository.hasher(), [&state] { return state.next_pack_id(); },
        options.sizes.entries_per_node, &state.write_throttle);
    const bool edits = parent != nullptr && parent->tells_changes();
    if (edits) {
        refresh_owners(state);
    }
    Catalog::Result built = state.catalog.build(repository, parent != nullptr ? &parent->backup : nullptr, edits, nodes);
    nodes.finish();
    fault::step("drain.metadata-durable");
    if (parent != nullptr && (!parent->is_compared() || parent->records_tell)) {
        progress.phase = "auditing";
        const AuditedSource audited_source{source, options.files};
        const AuditResult audited = options.audits_everything
                                        ? audit_everything(audited_source, repository, built.tree, progress, report)
                                        : audit(audited_source, repository, built.tree, built.totals.data_bytes, state.edited());
        result.audited_bytes = audited.bytes;
        result.lie = audited.lie;
        if (!audited.lost.empty()) {
            report.warn("what is stored of the unchanged data cannot all be read (" + audited.lost +
                        "): run `nodesnap verify --data`, then a backup: that stores anew what the node still has");
        }
    }

    state.add_packs(nodes.packs());
    result.packs = state.packs();
    result.damaged = state.damaged;
    result.io_fallback_reason = state.fallback_reason();
    result.tree = built.tree;
    result.totals = built.totals;
    result.new_bytes = state.new_bytes;
    result.read_files = state.read_files;
    result.reading = state.reading_time();
    result.next_pack = state.next_pack();
    result.totals.read_bytes = state.read_bytes;
    result.totals.stored_bytes = state.stored_bytes + nodes.stored_bytes();
    result.totals.referenced_bytes = result.totals.data_bytes - std::min(result.totals.data_bytes, state.new_bytes.load());
    result.totals.unreadable_files = state.unreadable_files;
    return result;
}

}  // namespace nodesnap
