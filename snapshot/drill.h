// Drill: a rehearsed restore. Restores a backup to a scratch place, has it validated, starts the daemon there, stops it, removes
// everything, and tells how long it took. See docs/design.md, "Rehearsing a restore".
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "io/progress.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"
#include "snapshot/restore.h"

namespace nodesnap {

// Commands are run by /bin/sh -c, with NODESNAP_DIRECTORY (what was restored), NODESNAP_BACKUP (its id) and NODESNAP_REASON ("drill") in
// their environment.
struct DrillOptions {
    std::string scratch_directory;               // in which it is restored; empty: $TMPDIR or /var/tmp
    bool keep = false;                           // the restored directory stays
    RestoreOptions restore;                      // but for `destination`
    std::string validate_command;                // ends with 0 if the data is good; empty: none
    std::chrono::nanoseconds validate_limit{0};  // 0: none
    std::string start_command;                   // runs as long as the daemon does; empty: it isn't started
    std::string ready_command;                   // ends with 0 when the daemon answers
    std::string stop_command;                    // empty: SIGTERM to the start command's process group
    std::chrono::nanoseconds start_limit{std::chrono::minutes(5)};
    std::chrono::nanoseconds stop_limit{std::chrono::minutes(5)};
};

// What became of one of the commands.
struct DrillStep {
    enum class Outcome { kPassed, kFailed, kNotRun };  // kNotRun: there is no such program
    Outcome outcome = Outcome::kNotRun;
    std::string explanation;  // if it isn't kPassed
    std::chrono::nanoseconds elapsed{0};
    std::string output;  // the end of it
};

struct DrillResult {
    RestoreResult restore;
    std::optional<DrillStep> validation;  // nullopt: there was nothing to do, or it didn't come to that
    std::optional<DrillStep> start;       // elapsed: until it was ready
    std::string kept_as;                  // empty: it is removed

    // From the first byte read to a daemon that answers, as far as was rehearsed.
    std::chrono::nanoseconds recovery_time() const;
    bool passed() const;
};

// Throws what a restore throws, and Error::refused before anything is done. That a command failed is no error here: the result says so.
DrillResult run_drill(Repository& repository, const Manifest& backup, const DrillOptions& options, Progress& progress, Report& report);

}  // namespace nodesnap
