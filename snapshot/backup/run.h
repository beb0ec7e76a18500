// BackupRun: one run of `backup`, step by step. See docs/design.md, "One backup".
//
//     prepare    what is refused, the lease, what is gone on with, the parent, the session   run_prepare.cpp
//     snapshot   the hold, the gates of a part of a cluster backup                           run_snapshot.cpp
//     drain      all the ways to read it                                                     run_drain.cpp
//     end        manifest, publish, retire                                                   run_end.cpp
//     failure    what stays for a resume, and what is taken back                             run_failure.cpp
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/backup.h"
#include "snapshot/backup/parent.h"
#include "snapshot/backup/snapshot_hold.h"
#include "snapshot/backup/stored_damage.h"
#include "snapshot/drain/drain.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// What it has begun and not finished is taken back by its destructors and by abandon().
class BackupRun {
public:
    BackupRun(Repository& repository, const BackupOptions& options, Progress& progress, Report& report);
    BackupResult run();

private:
    static std::unique_ptr<SnapshotBackend> preflight(const Repository& repository, const BackupOptions& options,
                                                      const ExcludeRules& excludes);
    // The snapshot of a backup that is gone on with is there.
    bool holds() const { return options_.hold.mode != hold::Mode::kNone && !draft_; }
    // Of a directory that can't be snapshotted: then only a part of the drain is held.
    bool pre_copies() const { return holds() && backend_->name() == "none"; }
    hold::Options hold_options() const;
    // What can't be taken together with others, as one moment that can be gone on with.
    void refuse_as_part() const;
    // What a cluster backup counts on isn't cleared up by a backup of the node alone that can't go on with it.
    void refuse_to_clear_part() const;
    std::optional<SessionRecord> unfinished_part() const;
    void require_wanted_draft() const;
    void identify();
    void clear_up();
    // Before a parent is chosen, which could be what takes the room.
    std::string make_room();
    // Of a backup that is gone on with it is that of its own time.
    void ask_version();
    void find_unfinished();
    std::string snapshot_name(const SessionId& session) const { return nodesnap::snapshot_name(repository_, session); }
    // What is taken over from the parent isn't read. So it must be there, and not be known as damaged; where that isn't so, what the node
    // still has of it is stored anew.
    void look_for_stored_damage();
    void begin();
    void take_snapshot();
    // Waits for the word to hold, too.
    SnapshotHold::Steps steps_of_part();
    // Before others may rely on it: from here on it can be gone on with, also if nothing of it has been drained.
    void store_part();
    void begin_journal();
    void require_consistency(Consistency found) const;
    void note_hold(const Held& held);
    void drain();
    DrainMode mode_without_changes() const { return parent_.compared ? DrainMode::kCompared : DrainMode::kWhole; }
    // What was logged so far builds on what can't be built on: that it doesn't count any more must outlast whatever comes.
    void begin_drain_anew(DrainMode mode, DrainOptions& drain_options);
    // False if the backup can't be built on: then it is to be done without it.
    bool drain_with(const DrainParent& parent, DrainOptions& drain_options);
    // Whether the audit has found data that was called unchanged, and isn't: then all is to be read, and compared.
    bool has_lied(const std::string& what, DrainOptions& drain_options);
    // What is stored already is found by comparing contents, where there is something to compare with.
    void drain_all(DrainOptions& drain_options);
    void drain_in_passes(const DrainOptions& drain_options);
    bool drain_changes(DrainOptions& drain_options);
    // An incomplete backup is no parent.
    bool keeps_snapshot() const;
    // Nothing is written down of the snapshot before it is known what came of the hold.
    Consistency consistency() const;
    // Without a tree.
    Manifest manifest_before_drain() const;
    Manifest manifest() const;
    void publish();
    // The backup exists: from here on a failure is only a warning.
    void retire();
    // Those of this repository's backups; also such as an earlier backup couldn't remove.
    void remove_older_parents();
    void end_after_failure(bool lacked_space);
    // What keeps the parent may be what the storage lacks.
    void make_room_after_failure();
    std::optional<Error> flaw_of_snapshot() const;
    void throw_if_taken_over();
    // Leaves what is stored for the next backup to go on with. False if there is nothing of the kind.
    bool suspend() noexcept;
    // After a failure: gives the space back at once. What this can't do, the next backup does: it finds the session object.
    void abandon() noexcept;
    SnapshotRemains remove_own_snapshot();
    // The manifest that promises it may be visible. If it isn't, the next backup removes the snapshot.
    void keep_snapshot_if_promised() noexcept;
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

}  // namespace nodesnap
