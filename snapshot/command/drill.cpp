// nodesnap drill: a rehearsed restore.
#include "snapshot/drill.h"

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    declare_as_of(options);
    declare_profile(options);
    options.value("scratch-dir", "DIR", "where the backup is restored to, in a directory of its own (default: $TMPDIR or /var/tmp)");
    options.flag("keep", "what was restored stays; where is told");
    options.value("validate-command", "COMMAND",
                  "the engine's own check; ends with 0 if what it finds in $NODESNAP_DIRECTORY is good (by /bin/sh)");
    options.value("validate-timeout", "DURATION", "how long the check may take (default: as long as it does)");
    options.value("start-command", "COMMAND", "starts the daemon on $NODESNAP_DIRECTORY, and runs as long as it does: begin it with exec");
    options.value("ready-command", "COMMAND", "with --start-command: ends with 0 when the daemon answers");
    options.value("stop-command", "COMMAND", "with --start-command: stops the daemon (default: SIGTERM to it)");
    options.value("start-timeout", "DURATION", "how long the daemon may take until it is ready (default: 5m)");
    options.value("stop-timeout", "DURATION", "how long the daemon may take to stop, before it is killed (default: 5m)");
    options.value("limit", "RATE", "read and write at most so many bytes a second, as in 200M (default: no limit)");
    options.value("workers", "N", "threads that move data, 1 to 8 (default: one for each CPU or connection, at most 4)");
    declare_io_uring(options);
    options.flag("quiet", "no progress line and no summary");
    options.flag("json", "print the result as a JSON document");
}

DrillOptions options_of_call(const Options& options) {
    DrillOptions result;
    result.scratch_directory = options.scratch_directory();
    result.keep = options.flag("keep");
    result.validate_command = options.text("validate-command");
    result.validate_limit = options.duration("validate-timeout").value_or(result.validate_limit);
    result.start_command = options.text("start-command");
    result.ready_command = options.text("ready-command");
    result.stop_command = options.text("stop-command");
    result.start_limit = options.duration("start-timeout").value_or(result.start_limit);
    result.stop_limit = options.duration("stop-timeout").value_or(result.stop_limit);
    if (!result.start_command.empty() && result.ready_command.empty()) {
        throw Error::usage("--start-command needs --ready-command: otherwise nobody knows when the daemon is ready",
                           "a command that asks the daemon something, and ends with 0 when it answers");
    }
    if (result.start_command.empty() && (!result.ready_command.empty() || !result.stop_command.empty())) {
        throw Error::usage("--ready-command and --stop-command are about the daemon of --start-command");
    }
    result.restore.force_blocking = options.flag("no-io-uring");
    result.restore.workers = options.count("workers", 1, RestoreOptions::kWorkersLimit, 0);
    result.restore.limit_bytes_per_second = options.rate("limit");
    return result;
}

const char* outcome_of(const DrillStep& step) {
    switch (step.outcome) {
        case DrillStep::Outcome::kPassed:
            return "passed";
        case DrillStep::Outcome::kFailed:
            return "failed";
        case DrillStep::Outcome::kNotRun:
            break;
    }
    return "not run";
}

void print_validation(std::ostream& out, const DrillOptions& options, const DrillResult& result) {
    if (options.validate_command.empty()) {
        out << "  not validated: no --validate-command, and no --profile that has one\n";
    } else if (result.validation->outcome == DrillStep::Outcome::kPassed) {
        out << "  validated in " << human_duration(result.validation->elapsed) << ": " << printable_text(options.validate_command) << '\n';
    } else {
        out << "  validation " << outcome_of(*result.validation) << ": " << printable_text(options.validate_command) << '\n';
    }
}

void print_start(std::ostream& out, const DrillOptions& options, const DrillResult& result) {
    if (options.start_command.empty()) {
        return;
    }
    if (!result.start) {
        out << "  the daemon was not started\n";
    } else if (result.start->outcome == DrillStep::Outcome::kPassed) {
        out << "  started: the daemon was ready after " << human_duration(result.start->elapsed) << '\n';
    } else {
        out << "  the daemon did not become ready\n";
    }
}

void print_summary(std::ostream& out, const Manifest& manifest, const DrillOptions& options, const DrillResult& result) {
    const RestoreResult& restore = result.restore;
    out << "rehearsed the restore of backup " << manifest.id.hex() << " of " << utc(manifest.snapshot_time_ns) << " UTC\n"
        << "  restored " << human_bytes(restore.bytes) << " in " << human_duration(restore.elapsed) << "; every block was right\n"
        << "  " << counts_of(restore.files, restore.directories, restore.others) << '\n';
    print_validation(out, options, result);
    print_start(out, options, result);
    if (result.passed()) {
        out << "  recovery time: " << human_duration(result.recovery_time()) << '\n';
    }
    if (!result.kept_as.empty()) {
        out << "  kept: " << printable_name(result.kept_as) << '\n';
    }
}

void write_step(JsonWriter& document, const char* name, const std::string& command, const std::optional<DrillStep>& step) {
    document.begin_object(name);
    document.member("command", command);
    document.member("outcome", step ? outcome_of(*step) : "not run");
    document.member("explanation", step ? step->explanation : "");
    document.member("elapsed_seconds", step ? std::chrono::duration<double>(step->elapsed).count() : 0);
    document.member("output", step ? step->output : "");
    document.end();
}

void write_result(JsonWriter& document, const Manifest& manifest, const DrillOptions& options, const DrillResult& result) {
    document.member("backup", manifest.id.hex());
    document.member("snapshot_time", format_utc_precise(manifest.snapshot_time_ns));
    document.member("passed", result.passed());
    document.member("files", result.restore.files);
    document.member("directories", result.restore.directories);
    document.member("others", result.restore.others);
    document.member("bytes", result.restore.bytes);
    document.member("restore_seconds", std::chrono::duration<double>(result.restore.elapsed).count());
    write_step(document, "validation", options.validate_command, result.validation);
    write_step(document, "start", options.start_command, result.start);
    document.member("recovery_seconds", std::chrono::duration<double>(result.recovery_time()).count());
    document.name("kept_as", result.kept_as);
}

// Told after the result: what it has proved so far is worth knowing.
void throw_if_failed(const DrillOptions& options, const DrillResult& result) {
    const std::string look = options.keep ? "look at what is kept" : "--keep leaves what was restored, to look at it";
    if (result.validation && result.validation->outcome == DrillStep::Outcome::kFailed) {
        throw Error(ExitStatus::kDamaged,
                    "the backup is as it was stored, but its validation failed (" + options.validate_command +
                        "): " + result.validation->explanation,
                    look + "; try an earlier backup");
    }
    if (result.start && result.start->outcome == DrillStep::Outcome::kFailed) {
        const std::string& output = result.start->output;
        throw Error::failed("the daemon did not come up on what was restored: " + result.start->explanation +
                                (output.empty() ? "" : "; its last words: " + output.substr(output.rfind('\n') + 1)),
                            look);
    }
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    const DrillOptions options = options_of_call(call.options());
    const BackupChoice choice = BackupChoice::or_latest(call);
    call.end_of_positionals();
    Repository repository = open_repository(call, place);
    const Manifest manifest = choice.find(repository);
    Progress progress;
    DrillResult result;
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = run_drill(repository, manifest, options, progress, call.report());
    }
    if (result.validation && result.validation->outcome == DrillStep::Outcome::kNotRun) {
        call.report().warn("what was restored could not be validated: " + result.validation->explanation);
    }
    if (call.json()) {
        write_result(call.document(), manifest, options, result);
    } else if (!call.options().flag("quiet")) {
        print_summary(call.out(), manifest, options, result);
    }
    throw_if_failed(options, result);
    return ExitStatus::kDone;
}

}  // namespace

const Command kDrill = {
    "drill",
    "rehearse a restore, and tell how long it takes",
    "nodesnap drill REPOSITORY [BACKUP] [OPTION]...\n"
    "nodesnap drill REPOSITORY --as-of TIME [OPTION]...\n",
    "Restores BACKUP (by default the latest) to a scratch place, has the engine's own check look at it, starts the daemon on it if\n"
    "commands for that are given, stops it, and removes everything again. Tells how long the recovery would have taken, and what it\n"
    "proved. Every block is verified. Commands are run by /bin/sh with NODESNAP_DIRECTORY, NODESNAP_BACKUP and NODESNAP_REASON=drill in "
    "their\n"
    "environment. What a drill that was killed left is removed by the next one with the same --scratch-dir.\n"
    "Needs no lock and no write access to the repository.\n",
    "nodesnap drill /backup/node1 --profile rocksdb --scratch-dir /srv/scratch\n"
    "nodesnap drill /backup/node1 --start-command 'exec qdbd -r \"$NODESNAP_DIRECTORY\" -a 127.0.0.1:28360' \\\n"
    "    --ready-command 'qdbsh --cluster qdb://127.0.0.1:28360 -c status'\n",
    "0  restored, and all commands said that it is good\n"
    "1  failed or interrupted, or the daemon didn't become ready\n"
    "2  wrong usage\n"
    "3  refused: too little space in the scratch place, or the backup is incomplete\n"
    "4  restored, with warnings: there is no such program as the validate command's, the daemon had to be killed, something that\n"
    "   the scratch place can't hold\n"
    "5  the backup is damaged, or the validate command says that it isn't good\n",
    declare,
    run,
};

}  // namespace nodesnap::command
