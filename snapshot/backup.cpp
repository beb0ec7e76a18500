#include "snapshot/backup.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <set>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backup/backend_choice.h"
#include "snapshot/backup/captured.h"
#include "snapshot/backup/left_elsewhere.h"
#include "snapshot/backup/left_snapshot.h"
#include "snapshot/backup/pre_copy.h"
#include "snapshot/backup/snapshot_hold.h"
#include "snapshot/backup/stored_damage.h"
#include "snapshot/backup/unfinished.h"
#include "snapshot/engine_version.h"
#include "snapshot/repository/identity.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/rollback.h"
#include "snapshot/scratch.h"

namespace nodesnap {
namespace {

// One run of `backup`, step by step. What it has begun and not finished is taken back by its destructors and by abandon().
class BackupRun {
public:
    BackupRun(Repository& repository, const BackupOptions& options, Progress& progress, Report& report)
        : repository_(repository),
          options_(options),
          progress_(progress),
          report_(report),
          excludes_(options.excludes),
          started_ns_(monotonic_ns()),
          captured_(read_captured(options.capture)),
          backend_(preflight(repository, options, excludes_)),
          lease_(Lease::acquire(repository.target(), repository.info().uuid, options.lease)) {}

    BackupResult run() {
        repository_.refresh(lease_);  // it may have got its node while we waited for the lease
        find_unfinished();
        if (options_.resume_only && !draft_) {
            throw Error::failed("backup " + options_.resume_only->hex() + " can't be gone on with: " +
                                    (result_.resume_refused.empty() ? "nothing of it is left" : result_.resume_refused),
                                "take a new backup");
        }
        if (holds()) {
            refuse_futile_hold(hold_options(), excludes_);
        }
        if (options_.gates != nullptr) {
            if (!draft_) {
                refuse_as_part();
            }
            options_.gates->asked(repository_, lease_);
        }
        identify();
        clear_up();
        ask_version();
        if (!draft_) {
            const std::string dropped = make_room();
            parent_ = options_.full ? no_parent() : find_parent(repository_, *backend_);
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

private:
    static std::unique_ptr<SnapshotBackend> preflight(const Repository& repository, const BackupOptions& options,
                                                      const ExcludeRules& excludes) {
        repository.target().check_writable();
        return choose_backend_for(repository.target(), options, excludes);
    }

    // The snapshot of a backup that is gone on with is there.
    bool holds() const { return options_.hold.mode != hold::Mode::kNone && !draft_; }
    // Of a directory that can't be snapshotted: then only a part of the drain is held.
    bool pre_copies() const { return holds() && backend_->name() == "none"; }
    hold::Options hold_options() const {
        hold::Options complete = options_.hold;
        complete.node_directory = resolve_path(options_.node_directory);
        complete.state_directory = options_.state_directory;
        return complete;
    }

    // What can't be taken together with others, as one moment that can be gone on with.
    void refuse_as_part() const {
        if (backend_->name() == "none") {
            throw Error::refused(
                "a part of a cluster backup needs a snapshot, and " + options_.node_directory + " can't have one: " + backend_->reason(),
                "`nodesnap doctor` tells what its storage offers");
        }
        const std::set<SessionId> unfinished = repository_.unfinished_sessions();
        for (const SessionRecord& session : repository_.sessions()) {
            if (session.cut && session.epoch < lease_.epoch() && unfinished.contains(session.id) && repository_.can_be_resumed(session) &&
                !repository_.target().load(layout::cut_given_up(*session.cut), kJsonObjectLimit)) {
                throw Error::refused(
                    "the cluster backup " + session.cut->text() + " isn't finished: a part of it is in " + repository_.target().describe(),
                    "`nodesnap cluster backup --finish` goes on with it; `nodesnap cluster forget` gives it up");
            }
        }
    }

    void identify() {
        const auto identity = resolve_identity(repository_.info(), options_.state_directory, machine_id(), backend_->file_system_uuid(),
                                               resolve_path(options_.node_directory), options_.adopt_node);
        if (!(identity == repository_.info().node)) {
            repository_.set_node(lease_, identity);
        }
    }

    void clear_up() {
        progress_.phase = "clearing up after an unfinished backup";
        result_.cleared_sessions = repository_.clear_sessions(
            lease_, [this](const SessionRecord& left) { return remove_snapshot_left_by(left, repository_, *backend_, report_); },
            draft_ ? std::optional(draft_->id) : std::nullopt);
        journal_begun_ = draft_ && take_over_unfinished(repository_, session_);
        if (draft_ && !journal_begun_) {
            result_.resume_refused = "it cannot be told what became of it";
            draft_.reset();
            snapshot_.reset();
            parent_ = {};
        }
    }

    // Before a parent is chosen, which could be what takes the room.
    std::string make_room() {
        std::string dropped = backend_->make_room();
        if (!dropped.empty()) {
            report_.warn(dropped);
        }
        return dropped;
    }

    // Of a backup that is gone on with it is that of its own time.
    void ask_version() {
        if (draft_) {
            engine_version_ = draft_->engine_version;
        } else if (!options_.version_command.empty()) {
            const EngineAnswer answer = ask_engine_version(options_.version_command, options_.node_directory);
            engine_version_ = answer.version.text;
            if (!answer.version.known() && !answer.not_installed) {
                report_.warn("the engine's version isn't known, so that no restore of this backup can refuse an older one: " +
                             answer.problem + " (" + options_.version_command + ")");
            }
        }
    }

    void find_unfinished() {
        UnfinishedBackup unfinished = nodesnap::find_unfinished(repository_, lease_, *backend_, excludes_, options_);
        result_.resume_refused = std::move(unfinished.refused);
        draft_ = std::move(unfinished.draft);
        session_ = unfinished.session;
        snapshot_ = std::move(unfinished.snapshot);
        parent_ = std::move(unfinished.parent);
    }

    std::string snapshot_name(const SessionId& session) const { return nodesnap::snapshot_name(repository_, session); }

    // What is taken over from the parent isn't read. So it must be there, and not be known as damaged; where that isn't so, what the node
    // still has of it is stored anew.
    void look_for_stored_damage() {
        const Manifest* parent = parent_.best() ? &*parent_.best() : nullptr;
        const PackStock stock = take_stock_for_backup(repository_, lease_, parent, draft_.has_value(), report_);
        stored_damage_ = find_stored_damage(repository_, stock, parent);
        if (stored_damage_.needed.empty()) {
            return;
        }
        const std::string what = stored_damage_.reason();
        if (draft_) {
            report_.warn(what + " (" + stored_damage_.example +
                         "), and this one, which was begun before, does so too: the next backup stores anew what the node still has of it");
            return;
        }
        report_.warn(what + " (" + stored_damage_.example +
                     "): everything is read, and what the node still has of it is stored anew; `nodesnap verify --data` "
                     "tells which files of the earlier backups are affected");
        parent_.compare_only(what);
    }

    void begin() {
        if (draft_) {
            result_.resumed = true;
            parent_.compare_blocks(*backend_, snapshot_.get());
            if (session_.mode == DrainMode::kChanges && !parent_.changed_since) {
                session_.mode = DrainMode::kCompared;  // what is logged is what has changed, and right whoever goes on
            }
            repository_.resume_session(lease_, session_, {repository_.next_sequence(), utc_now_ns() / 1'000'000'000, 0});
            return;
        }
        session_ = {};
        session_.id = SessionId::random();
        session_.manifest = {repository_.next_sequence(), utc_now_ns() / 1'000'000'000, 0};
        session_.epoch = lease_.epoch();
        session_.host = host_name();
        session_.snapshot_backend = backend_->name();
        repository_.begin_session(lease_, session_);
        fault::step("backup.session-begun");
    }

    void take_snapshot() {
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

    // Waits for the word to hold, too.
    SnapshotHold::Steps steps_of_part() {
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

    // Before others may rely on it: from here on it can be gone on with, also if nothing of it has been drained.
    void store_part() {
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

    void begin_journal() {
        // From here on it is removed only by who clears the session up.
        snapshot_->keep();
        repository_.store_draft(lease_, manifest_before_drain());
        journal_begun_ = true;
    }

    void require_consistency(Consistency found) const {
        if (found > options_.needed && !options_.backend.accept_inconsistent) {
            throw Error::refused("the backup would be " + to_string(found) + ", and " + to_string(options_.needed) + " is needed" +
                                     (result_.hold_doubt.empty() ? std::string() : ": " + result_.hold_doubt),
                                 "--hold keeps the daemon from writing meanwhile; --accept-inconsistent backs it up as it is");
        }
    }

    void note_hold(const Held& held) {
        held_for_ = held.downtime;
        result_.held = held.what;
        result_.hold_doubt = held.doubt;
    }

    void drain() {
        const std::int64_t drain_started_ns = monotonic_ns();
        drain_begun_ = true;
        DrainOptions drain_options;
        drain_options.workers = options_.workers;
        drain_options.force_blocking = options_.force_blocking;
        drain_options.audits_everything = options_.audit;
        drain_options.skip_unreadable = options_.skip_unreadable;
        drain_options.source_is_live = backend_->name() == "none";
        drain_options.clones = snapshot_->clones();
        drain_options.files = snapshot_->files();
        drain_options.tolerate_changes = options_.backend.accept_inconsistent;
        drain_options.still_ours = [this] { lease_.check(); };
        drain_options.check_source = [this] { snapshot_->check(false); };
        drain_options.limit_bytes_per_second = options_.limit_bytes_per_second;
        drain_options.cap = options_.cap;
        drain_options.scratch_directory = scratch_directory_or_default(options_.scratch_directory);
        drain_options.sizes = options_.sizes;
        drain_options.first_pack = session_.first_pack;
        if (backend_->name() != "none") {
            drain_options.begin_journal = [this] { begin_journal(); };
        }
        drain_options.resumed = draft_ ? &session_ : nullptr;
        try {
            if (pre_copies()) {
                drain_in_passes(drain_options);
            } else if (!parent_.changed_since || !drain_changes(drain_options)) {
                drain_all(drain_options);
            }
        } catch (const UnlistedDirectory& error) {
            report_.warn("everything is read anew, and compared, since what is below a directory cannot be told: " + error.message());
            parent_.compare_only("a directory could not be read");
            begin_drain_anew(mode_without_changes(), drain_options);
            drain_all(drain_options);
        }
        result_.drain_time = std::chrono::nanoseconds(monotonic_ns() - drain_started_ns);
    }

    DrainMode mode_without_changes() const { return parent_.compared ? DrainMode::kCompared : DrainMode::kWhole; }

    // What was logged so far builds on what can't be built on: that it doesn't count any more must outlast whatever comes.
    void begin_drain_anew(DrainMode mode, DrainOptions& drain_options) {
        drain_options.resumed = nullptr;
        drain_options.first_pack += kPacksOfOneDrain;
        session_.first_log = drain_options.first_pack;
        session_.mode = mode;
        repository_.begin_session(lease_, session_);
        repository_.remove_journal(session_.id);
    }

    // False if the backup can't be built on: then it is to be done without it.
    bool drain_with(const DrainParent& parent, DrainOptions& drain_options) {
        try {
            drained_ = run_drain(snapshot_->root(), repository_, session_.id, excludes_, &parent, drain_options, progress_, report_);
            return true;
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged) {
                throw;
            }
            report_.warn("everything is read and stored, since the last backup cannot be built on: " + error.message());
            parent_.compare_only("the last backup is damaged");
            parent_.compared.reset();
            begin_drain_anew(DrainMode::kWhole, drain_options);
            return false;
        }
    }

    // Whether the audit has found data that was called unchanged, and isn't: then all is to be read, and compared.
    bool has_lied(const std::string& what, DrainOptions& drain_options) {
        if (drained_.lie.empty()) {
            return false;
        }
        report_.warn(what + " (" + drained_.lie + " of " + snapshot_->entry().path +
                     "): everything is read and compared instead; please report this, with the kernel's version");
        parent_.compare_only(what);
        begin_drain_anew(mode_without_changes(), drain_options);
        return true;
    }

    // What is stored already is found by comparing contents, where there is something to compare with.
    void drain_all(DrainOptions& drain_options) {
        while (parent_.compared) {
            const DrainParent parent = parent_.comparison(*snapshot_, stored_damage_.packs);
            if (!drain_with(parent, drain_options)) {
                break;
            }
            if (!has_lied("a file was changed without a trace in its times", drain_options)) {
                result_.records_told = parent.records_tell;
                return;
            }
        }
        parent_.compared.reset();
        drained_ = run_drain(snapshot_->root(), repository_, session_.id, excludes_, nullptr, drain_options, progress_, report_);
    }

    void drain_in_passes(const DrainOptions& drain_options) {
        const hold::Options options = hold_options();
        PreCopy passes({snapshot_->root(), options.node_directory, excludes_, repository_, session_.id}, drain_options, progress_, report_);
        passes.warm([this](DrainOptions& first) {
            drain_all(first);
            return std::move(drained_);
        });
        hold_.emplace(options, excludes_);
        const Held held = passes.finish(*hold_, options.max_downtime);
        note_hold(held);
        require_consistency(consistency());
        held_since_ns_ = held.since_ns;
        drained_ = passes.result();
        result_.passes = passes.passes();
        result_.held_read_bytes = passes.held_read_bytes();
        result_.held_files = passes.held_files();
    }

    bool drain_changes(DrainOptions& drain_options) {
        if (!drain_with(parent_.changes(), drain_options)) {
            return false;
        }
        if (has_lied("the file system's change list was wrong", drain_options)) {
            return false;
        }
        SnapshotProof now = parent_.snapshot->proof();
        now.path = parent_.changed_since->proof.path;
        if (!(now == parent_.changed_since->proof)) {
            throw Error::failed("the snapshot of the last backup was changed while this one was made: " + parent_.snapshot->entry().path,
                                "nothing but nodesnap may touch it; run the backup again, it will read everything");
        }
        return true;
    }

    // An incomplete backup is no parent.
    bool keeps_snapshot() const {
        return !options_.drop_snapshot && (options_.keep_snapshot || (may_stay_ && !drained_.damaged && backend_->tells_changes()));
    }

    // Nothing is written down of the snapshot before it is known what came of the hold.
    Consistency consistency() const {
        const bool proved = hold_ && result_.hold_doubt.empty();
        return draft_ ? draft_->consistency : proved ? Consistency::kPointInTime : snapshot_->consistency();
    }

    // Without a tree.
    Manifest manifest_before_drain() const {
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

    Manifest manifest() const {
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

    void publish() {
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

    // The backup exists: from here on a failure is only a warning.
    void retire() {
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

    // Those of this repository's backups; also such as an earlier backup couldn't remove.
    void remove_older_parents() {
        if (drained_.damaged) {
            return;  // the next backup needs the last good one's
        }
        parent_.snapshot.reset();
        drop_older_parents(repository_, *backend_, session_.id);
        remove_parent_elsewhere(repository_, *backend_, session_.id, report_);
    }

    void end_after_failure(bool lacked_space) {
        // Who took the lease over has removed the snapshot and the packs from under this backup: that is what failed, not what it ran into.
        throw_if_taken_over();
        if (options_.gates != nullptr) {
            options_.gates->disarmed();
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

    // What keeps the parent may be what the storage lacks.
    void make_room_after_failure() {
        parent_.snapshot.reset();
        try {
            make_room();
        } catch (const Error& error) {
            report_.warn("the snapshots of earlier backups stay: " + error.message());
        }
    }

    std::optional<Error> flaw_of_snapshot() const {
        try {
            if (snapshot_) {
                snapshot_->check(true);
            }
            return std::nullopt;
        } catch (const Error& error) {
            return error;
        }
    }

    void throw_if_taken_over() {
        try {
            lease_.check();
        } catch (const Error& error) {
            if (error.status() == ExitStatus::kLocked) {
                throw;
            }
        }
    }

    // Leaves what is stored for the next backup to go on with. False if there is nothing of the kind.
    bool suspend() noexcept {
        if (!journal_begun_ || !snapshot_ || is_spoilt_) {
            return false;
        }
        try {
            if ((!session_.cut && repository_.logged_packs(session_).empty()) ||
                !repository_.suspend_session(lease_, session_, publishing_)) {
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

    // After a failure: gives the space back at once. What this can't do, the next backup does: it finds the session object.
    void abandon() noexcept {
        try {
            const bool given_up =
                repository_.abandon_session(lease_, session_, [this](const SessionRecord&) { return remove_own_snapshot(); });
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

    SnapshotRemains remove_own_snapshot() {
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

    // The manifest that promises it may be visible. If it isn't, the next backup removes the snapshot.
    void keep_snapshot_if_promised() noexcept {
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

    Repository& repository_;
    const BackupOptions& options_;
    Progress& progress_;
    Report& report_;
    ExcludeRules excludes_;
    std::int64_t started_ns_;
    std::vector<CapturedFile> captured_;
    std::unique_ptr<SnapshotBackend> backend_;
    Lease lease_;
    SessionRecord session_;
    std::optional<Manifest> draft_;  // of the backup that is gone on with
    std::atomic<bool> journal_begun_ = false;
    std::optional<CutPart> cut_;  // that this is a part of
    bool drain_begun_ = false;
    bool publishing_ = false;
    bool may_stay_ = true;    // the snapshot
    bool is_spoilt_ = false;  // the snapshot: nobody can go on from it
    BackupParent parent_;
    StoredDamage stored_damage_;
    std::string engine_version_;
    std::optional<SnapshotHold> hold_;
    std::chrono::nanoseconds held_for_{0};
    std::optional<std::int64_t> held_since_ns_;  // of a directory that was read in passes: UTC
    std::unique_ptr<Snapshot> snapshot_;
    DrainResult drained_;
    BackupResult result_;
};

}  // namespace

BackupResult run_backup(Repository& repository, const BackupOptions& options, Progress& progress, Report& report) {
    finish_rollback(options.node_directory, options.backend.snapshot_directory, report);
    return BackupRun(repository, options, progress, report).run();
}

}  // namespace nodesnap
