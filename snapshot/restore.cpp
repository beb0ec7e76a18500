#include "snapshot/restore.h"

#include <linux/fs.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "platform/btrfs.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/host.h"
#include "platform/inode_flags.h"
#include "platform/interrupt.h"
#include "snapshot/restore/check.h"
#include "snapshot/restore/checkpoint.h"
#include "snapshot/restore/content_difference.h"
#include "snapshot/restore/delta_estimate.h"
#include "snapshot/restore/delta_losses.h"
#include "snapshot/restore/estimate.h"
#include "snapshot/restore/finish.h"
#include "snapshot/restore/habits.h"
#include "snapshot/restore/lost_names.h"
#include "snapshot/restore/place.h"
#include "snapshot/restore/plan.h"
#include "snapshot/restore/queue.h"
#include "snapshot/restore/remove_foreign.h"
#include "snapshot/restore/snapshot_update.h"
#include "snapshot/restore/space.h"
#include "snapshot/restore/surroundings.h"
#include "snapshot/restore/unfinished.h"
#include "snapshot/restore/worker.h"
#include "snapshot/restore/worker_options.h"

namespace nodesnap {
namespace {

// Everything about one restore, from its preconditions to its end.
class Restoring {
public:
    Restoring(Repository& repository, const Manifest& backup, const RestoreOptions& options, Progress& progress, Report& report)
        : repository_(repository),
          backup_(backup),
          options_(options),
          progress_(progress),
          report_(report),
          lost_(options.accept_incomplete),
          owners_(repository, backup, options.owners, report),
          workers_(restore_workers(options, repository.target())) {}

    RestoreResult run();

private:
    void inspect();
    void require_accepted() const;
    void choose_basis();
    std::uint64_t bytes_to_write();
    DeltaDifference difference_to_basis();
    void tell_lost();
    // The root's entries that are nobody's business.
    std::vector<std::string> not_foreign() const { return {place_.staging_name(), state_.links, "lost+found"}; }
    RestoreBasis basis_of(int old_root) const;
    void take_over();
    void restore();
    void check_earlier(RestoreContext& context, int root);
    void write(RestoreContext& context, RestoreQueue& queue, int root);
    void place(RestoreContext& context);
    void work(RestoreContext& context, RestoreQueue& queue, const RestoreWorker::Options& options, std::string& fallback_reason);
    void clean_up(RestoreContext& context, int root);
    std::string links_name() const;
    void tell_totals();

    Repository& repository_;
    const Manifest& backup_;
    const RestoreOptions& options_;
    Progress& progress_;
    Report& report_;
    RestoreLost lost_;
    OwnerMap owners_;
    RestoreWarnings warnings_;
    RestoreSelection selection_;
    RestoreNeeds needs_;
    RestorePlace place_;
    RestoreState state_;
    const unsigned workers_;
    std::uint64_t descriptors_ = 1024;
    std::uint64_t bytes_at_start_ = 0;
    DeltaDifference difference_;  // of a delta restore
    RestoreResult result_;
};

RestoreResult Restoring::run() {
    const auto start = std::chrono::steady_clock::now();
    progress_.phase = "checking";
    inspect();
    if (options_.dry_run) {
        result_.bytes = bytes_to_write();
        if (place_.clones() && !place_.placed && !options_.allow_low_space) {
            require_space_of_clone(place_, result_.bytes - std::min(result_.bytes, state_.bytes));
        }
        result_.files_created = difference_.created;
        result_.files_changed = difference_.changed;
        result_.files_removed = difference_.removed;
        result_.kept_bytes = place_.delta ? needs_.data_bytes - std::min(needs_.data_bytes, result_.bytes) : 0;
        auto needs = needs_;
        needs.data_bytes = result_.bytes;
        tell_lost();
        result_.estimate = estimate_restore(repository_, backup_, place_, selection_, needs, options_);
    } else {
        restore();
    }
    result_.placed_as = place_.placed_as();
    result_.elapsed = std::chrono::steady_clock::now() - start;
    return result_;
}

std::uint64_t Restoring::bytes_to_write() {
    if (!place_.delta || place_.placed) {
        return needs_.data_bytes;
    }
    if (!place_.snapshot) {
        const auto root = open_path(place_.destination, O_RDONLY | O_DIRECTORY);
        const NeededData needed = losses_of_delta(repository_, lost_, -1);
        const DeltaDifference contents =
            place_.in_place ? in_place_difference(repository_, backup_, root.get(), options_.gate_files, not_foreign(), needed)
                            : clone_difference(repository_, backup_, root.get(), needed);
        const bool begun = place_.in_place && place_.left && stat_path(place_.content_path());
        const auto content = begun ? open_path(place_.content_path(), O_RDONLY | O_DIRECTORY) : FileDescriptor();
        const std::uint64_t made = begun ? bytes_of_made_gates(repository_, backup_, content.get(), options_.gate_files) : 0;
        difference_.bytes = contents.bytes - std::min(contents.bytes, made);
        difference_.changed += contents.changed;
    }
    return difference_.bytes;
}

// What can be told before anything is touched: all of it where a snapshot tells, otherwise the names.
DeltaDifference Restoring::difference_to_basis() {
    if (place_.placed) {
        return {};
    }
    if (place_.snapshot) {
        return difference(repository_, backup_, *place_.snapshot.backup,
                          options_.dry_run ? losses_of_delta(repository_, lost_, place_.snapshot.root.get()) : NeededData());
    }
    const auto root = open_path(place_.destination, O_RDONLY | O_DIRECTORY);
    DeltaDifference result = name_difference(repository_, backup_, root.get(), not_foreign());
    if (place_.in_place) {  // they are made anew, so that nothing tells of them later
        result.changed = changed_gates(repository_, backup_, root.get(), options_.gate_files);
    }
    return result;
}

void Restoring::tell_lost() {
    if (options_.dry_run && place_.snapshot) {
        name_lost_inodes(repository_, backup_, lost_);
    }
    lost_.tell(report_, options_.dry_run);
    result_.lost = lost_.ranges();
    result_.lost_further = lost_.further();
}

// All that can be refused; nothing is touched.
void Restoring::inspect() {
    if (options_.delta && !options_.paths.empty()) {
        throw Error::usage("--delta restores the whole node directory: --path can't be given with it");
    }
    selection_ = select_paths(repository_, backup_, options_.paths);
    auto wanted = new_state(repository_, backup_, options_);
    place_ = inspect_place(repository_, backup_, options_, wanted);
    look_around(repository_, place_, report_);
    require_own_place(backup_, options_, place_.destination, report_);
    require_engine(backup_, options_, place_.destination, report_);
    needs_ = needs_of(repository_, backup_, selection_, file_system_of(place_.parent));
    result_.required_bytes = needs_.required_bytes;
    result_.files = needs_.files;
    result_.directories = needs_.directories;
    require_accepted();
    result_.others = needs_.inodes - needs_.files - needs_.directories;
    if (!place_.placed && !options_.allow_low_space) {
        require_space(repository_, backup_, selection_, place_, needs_);
    }
    if (!place_.used.empty()) {
        report_.warn(place_.used + "; it goes on with what was there, or sees what is written to it");
    }
    state_ = place_.left ? std::move(*place_.left) : std::move(wanted);
    result_.resumed = place_.left.has_value();
    state_.run += result_.resumed ? 1 : 0;
    if (state_.links.empty()) {
        state_.links = links_name();
    }
    if (place_.delta) {
        choose_basis();
    }
    if (place_.snapshot && !place_.placed && !options_.allow_low_space) {
        require_space_of_clone(place_, difference_.bytes - std::min(difference_.bytes, state_.bytes));
    }
    if (place_.kind == RestorePlace::Kind::kBeside && !place_.placed && state_.basis != RestoreState::kSnapshot) {
        state_.phase = RestoreState::Phase::kWriting;  // complete or not, it is looked at once more before it is renamed
    }
}

// What a delta restore begins with. One that goes on goes on with what it has begun with.
void Restoring::choose_basis() {
    if (place_.discards_content) {
        const auto run = state_.run;
        const auto links = state_.links;
        state_ = new_state(repository_, backup_, options_);
        state_.run = run;
        state_.links = links;
    }
    if (!place_.placed) {
        state_.old = place_.old;
    }
    if (place_.in_place) {
        state_.basis = RestoreState::kInPlace;
    } else if (state_.basis.empty()) {
        const bool possible =
            options_.use_snapshots && place_.subvolume && !place_.placed && options_.owners.users.empty() && options_.owners.groups.empty();
        if (possible && (options_.owners.numeric_ids || owners_stay(repository_, backup_, owners_))) {
            place_.snapshot = find_local_snapshot(repository_, backup_, place_.parent);
        }
        if (place_.snapshot && !SnapshotUpdate::possible(repository_, *place_.snapshot.backup, backup_)) {
            place_.snapshot = {};
        }
        state_.basis = place_.snapshot ? RestoreState::kSnapshot : RestoreState::kClone;
    }
    fault::step("restore.inspected");
    try {
        difference_ = difference_to_basis();
    } catch (const Error& error) {
        throw_if_interrupted();
        if (options_.dry_run) {
            throw;
        }
        // What is there may be damaged, which is no reason not to restore over it.
        report_.warn("how many files are created, changed and removed can't be told: " + error.message());
    }
    result_.basis = state_.basis;
    result_.basis_backup = place_.snapshot ? place_.snapshot.backup->id.hex() : "";
}

RestoreBasis Restoring::basis_of(int old_root) const {
    if (place_.in_place) {
        return {RestoreBasis::Kind::kInPlace};
    }
    if (place_.snapshot) {
        return {RestoreBasis::Kind::kSnapshot, -1, &*place_.snapshot.backup};
    }
    return {RestoreBasis::Kind::kClone, old_root};
}

// That what is wanted isn't all there.
void Restoring::require_accepted() const {
    if (options_.accept_incomplete) {
        return;
    }
    if (place_.left && (!place_.left->lost.empty() || place_.left->lost_further != 0)) {
        throw Error::refused(
            "the interrupted restore in " + place_.staging + " has put zeros, or left what was there, for what the backup " + "hasn't got",
            "go on with it with --accept-incomplete" + (place_.in_place ? "" : ", or remove " + place_.staging + " and restore again"));
    }
    if (!needs_.incomplete.empty()) {
        const auto what = selection_.whole() ? "" : ": it hasn't got all of " + needs_.incomplete;
        throw Error::refused(
            "backup " + backup_.id.hex() + " is incomplete" + what + ", parts of which could not be read when it was made",
            "restore an earlier backup, or what is whole in this one with --path, or put zeros for what it hasn't got with "
            "--accept-incomplete");
    }
}

// A name that the restored directory doesn't hold itself.
std::string Restoring::links_name() const {
    std::string name = ".nodesnap-links";
    while (tree_find(repository_.nodes(), backup_.tree, key::dirent(backup_.root_ino, name))) {
        name += "-";
    }
    return name;
}

void Restoring::tell_totals() {
    progress_.bytes_total = needs_.data_bytes;
    progress_.files_total = needs_.files;
    progress_.bytes_done = state_.bytes;
    progress_.totals_final = true;
}

void Restoring::restore() {
    tell_totals();
    try {
        bytes_at_start_ = state_.bytes;
        const bool was_complete = state_.phase != RestoreState::Phase::kWriting;
        const RestoreStaging staging(place_, state_);
        fault::step("restore.staged");
        if (place_.in_place && !place_.placed && state_.phase == RestoreState::Phase::kWriting) {
            take_gates_away(place_, options_.gate_files);
        }
        const auto old_root = place_.clones() ? open_path(place_.destination, O_RDONLY | O_DIRECTORY) : FileDescriptor();
        const auto basis = basis_of(old_root.get());
        const auto file_system = file_system_of(place_.parent);
        take_over();
        AttributeWriter attributes(repository_, backup_, owners_, warnings_, lost_);
        RestoreLedger ledger(state_);
        Throttle throttle(options_.limit_bytes_per_second);
        RestoreLinks links(staging.root(), state_.links, state_.run, warnings_);
        RestoreContext context{.repository = repository_,
                               .backup = backup_,
                               .attributes = attributes,
                               .owners = owners_,
                               .warnings = warnings_,
                               .lost = lost_,
                               .links = links,
                               .ledger = ledger,
                               .throttle = throttle,
                               .progress = progress_,
                               .report = report_,
                               .direct_writes = file_system.type == "ext4" || file_system.type == "xfs",
                               .preallocates = file_system.type == "ext4" || file_system.type == "xfs",
                               .window_bytes = restore_window_bytes(workers_),
                               .going_on = result_.resumed || place_.in_place,
                               .basis = place_.delta ? &basis : nullptr,
                               .gates_directory = {},
                               .gate_files = options_.gate_files,
                               // What was sealed may have been opened before it was cut off.
                               .sealed = state_.sealed || (result_.resumed && place_.delta)};
        if (place_.in_place && !place_.placed) {
            context.old_gates = staging.directory();
            context.gates_directory = std::make_shared<OpenDirectory>(OpenDirectory{open_at(staging.content(), ".", O_RDONLY), {}});
        }
        if (!place_.placed) {
            attributes.set_inherited_flags(inode_flags(staging.root()).value_or(0));
            attributes.probe_times(staging.root());
        }
        descriptors_ = entry::raise_descriptor_limit();
        const auto batches_waiting = std::clamp<std::size_t>(descriptors_ / 4 / RestorePlan::kGatherDirectories, 1, 8);
        RestoreQueue queue(batches_waiting);
        if (state_.phase == RestoreState::Phase::kWriting) {
            if (place_.in_place) {
                remove_foreign(context, staging.root(), not_foreign());
                fault::step("restore.foreign-removed");
            }
            check_earlier(context, staging.root());
            write(context, queue, staging.root());
        }
        place(context);
        fault::step("restore.placed");
        const auto root = open_path(place_.destination, O_RDONLY | O_DIRECTORY);
        if (was_complete) {
            check_placed(context, selection_, root.get(), state_,
                         "if it is to be as it is now, remove " + place_.staging + "; if not, also move " + place_.destination + " away");
        }
        if (place_.clones()) {
            finish_root(context, root.get());  // to some file systems an exchange is a change of what is exchanged
            sync_file_system(root.get(), place_.destination);
        }
        if (context.sealed) {
            seal_tree(context, selection_, root.get());
        }
        if (place_.kind == RestorePlace::Kind::kBeside) {
            seal_root(context, root.get());
        }
        if (lost_.any_stored() && keep_old_all_the_same(place_)) {
            report_.warn("the old directory is kept as " + place_.keep_old_as + ", since it may hold what is lost in the repository");
        }
        clean_up(context, root.get());
        // In place an earlier run's are what is there by now, also to a dry run.
        result_.bytes = context.bytes + (place_.in_place ? 0 : bytes_at_start_);
        const bool kept_unread = place_.snapshot || (place_.in_place && result_.resumed);  // not by this run
        result_.kept_bytes = kept_unread ? needs_.data_bytes - std::min(needs_.data_bytes, result_.bytes) : context.bytes_kept.load();
        result_.files_created = difference_.created;
        result_.files_changed = difference_.changed + (place_.snapshot ? 0 : context.files_changed.load());
        result_.files_removed = difference_.removed;
        result_.old_kept_as = place_.keep_old_as;
    } catch (const Error& error) {
        if (error.status() == ExitStatus::kRefused || !stat_path(place_.staging)) {
            throw;
        }
        throw unfinished_restore(error, repository_, backup_, place_, options_.gate_files, lost_);
    }
    warnings_.tell(report_);
    tell_lost();
    result_.others -= std::min(result_.others, warnings_.left_out());
    owners_.tell_unused();
    progress_.phase = "done";
}

// What an earlier run has to tell.
void Restoring::take_over() {
    for (const auto& group : state_.warnings) {
        warnings_.add(group);
    }
    for (const auto& range : state_.lost) {
        lost_.add(range);
    }
    lost_.add_further(state_.lost_further);
    owners_.add_used(state_.owners_used);
}

// What earlier runs have finished, as far as it is still there.
void Restoring::check_earlier(RestoreContext& context, int root) {
    if (result_.resumed && (state_.batches != 0 || !state_.large.empty())) {
        check_left(context, selection_, root, state_);
        context.ledger.restart(state_);
        store_state(place_.state_path(), state_);  // before anything of it is written again
    }
    bytes_at_start_ = state_.bytes;
    progress_.bytes_done = state_.bytes;
}

void Restoring::place(RestoreContext& context) {
    progress_.phase = "putting in place";
    put_in_place(place_, options_.gate_files, [&](int root) {
        finish_root(context, root);
        open_root(root, place_.destination);
    });
    if (place_.kind == RestorePlace::Kind::kMountRoot && !place_.placed) {
        state_.phase = RestoreState::Phase::kPlaced;
        store_state(place_.state_path(), state_);
    }
}

// All is in place and durable: what fails from here on is told, but the restore has been done.
void Restoring::clean_up(RestoreContext& context, int root) {
    try {
        dispose_of_old(place_);
        remove_staging(place_);
        if (place_.kind == RestorePlace::Kind::kMountRoot) {
            finish_root(context, root);  // its times have changed
            seal_root(context, root);
            sync_directory(root, place_.destination);
        }
    } catch (const Error& error) {
        report_.warn("the restore is complete, but " + place_.staging + " could not be cleared away: " + error.message());
    }
}

// Makes and fills everything below the staged root, durably.
void Restoring::write(RestoreContext& context, RestoreQueue& queue, int root) {
    progress_.phase = "restoring";
    RestoreCheckpoint checkpoint(context, queue, state_, place_.state_path(), open_path(place_.parent, O_RDONLY | O_DIRECTORY),
                                 options_.checkpoint_interval);
    const auto options = restore_worker_options(options_, workers_, descriptors_);
    std::vector<std::string> fallback_reasons(workers_);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < workers_; ++i) {
        threads.emplace_back([this, &context, &queue, &options, &reason = fallback_reasons[i]] { work(context, queue, options, reason); });
    }
    const RestorePlan::Sink sink = [&](std::uint64_t number, std::span<RestoreEntry> entries) {
        if (number < context.ledger.first_batch()) {
            return true;
        }
        auto batch = std::make_shared<RestoreBatch>(number, context.ledger);
        batch->entries.assign(std::make_move_iterator(entries.begin()), std::make_move_iterator(entries.end()));
        return queue.push(std::move(batch));
    };
    std::optional<SnapshotUpdate> update;
    try {
        if (place_.snapshot) {
            update.emplace(context, *place_.snapshot.backup, root);
            update->take_names();
            update->make_files(sink);
        } else {
            RestorePlan(context, selection_, root, sink).run();
        }
        queue.close();
    } catch (...) {
        queue.abort(std::current_exception());
    }
    for (auto& thread : threads) {
        thread.join();
    }
    checkpoint.stop();
    queue.rethrow();
    result_.io_fallback_reason = fallback_reasons.front();
    progress_.phase = "making durable";
    if (context.links.used()) {
        // Without the directory of links a later run couldn't find the inodes any more, so by then it must have nothing left to link.
        checkpoint.take();
        RestoreLinks::remove(root, state_.links);
    }
    if (update) {
        update->give_names();
        update->finish();
        name_lost_inodes(repository_, backup_, lost_);  // before it is noted in the state
    } else {
        finish_directories(context, selection_, root);
    }
    checkpoint.take(RestoreState::Phase::kPlacing);
    state_ = checkpoint.state();
}

void Restoring::work(RestoreContext& context, RestoreQueue& queue, const RestoreWorker::Options& options, std::string& fallback_reason) {
    try {
        RestoreWorker worker(context, queue, options);
        fallback_reason = worker.fallback_reason();
        try {
            worker.run();
        } catch (...) {
            queue.abort(std::current_exception());  // before the worker goes, so that what it has in flight ends soon
        }
    } catch (...) {
        queue.abort(std::current_exception());
    }
}

}  // namespace

RestoreResult run_restore(Repository& repository, const Manifest& backup, const RestoreOptions& options, Progress& progress,
                          Report& report) {
    try {
        return Restoring(repository, backup, options, progress, report).run();
    } catch (const Error& error) {
        if (auto forgotten = forgotten_meanwhile(error, repository, backup)) {
            throw std::move(*forgotten);
        }
        throw;
    }
}

}  // namespace nodesnap
