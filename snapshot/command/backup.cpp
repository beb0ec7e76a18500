// nodesnap backup: snapshots a node directory and drains the snapshot into a repository.
#include "snapshot/backup.h"

#include <algorithm>
#include <optional>

#include "io/units.h"
#include "snapshot/command/backup_options.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/repository/made_objects.h"

namespace nodesnap::command {
namespace {

double rate_of(const BackupResult& result) {
    const double seconds = std::chrono::duration<double>(result.drain_time).count();
    const std::uint64_t read = result.manifest.totals.read_bytes;
    return seconds > 0 ? static_cast<double>(read - std::min(read, result.resumed_bytes)) / seconds : 0;  // by this run
}

std::string how_it_was_taken(const BackupResult& result) {
    const Manifest& manifest = result.manifest;
    const std::string when = utc(manifest.snapshot_time_ns) + " UTC";
    const std::string why = " (" + printable_text(result.backend_reason) + ")";
    if (result.passes != 0) {
        return "no snapshot, read in " + std::to_string(result.passes) + " passes, the last of them on " + when + why;
    }
    if (result.backend == "none") {
        return "no snapshot, read from " + when + " on" + why;
    }
    return "snapshot: " + when + ", taken in " + human_duration(std::chrono::nanoseconds(manifest.snapshot_duration_ns)) + " by " +
           result.backend + why;
}

std::string how_it_was_held(const BackupResult& result) {
    if (result.held.empty()) {
        return "";
    }
    const std::string what = printable_text(result.held);
    const std::int64_t held_ns = result.manifest.held_ns;
    const std::string how =
        held_ns == 0 ? what + " stood still already" : what + ", for " + human_duration(std::chrono::nanoseconds(held_ns));
    const std::string read = result.passes == 0 ? ""
                                                : ", while " + human_bytes(result.held_read_bytes) + " of " +
                                                      std::to_string(result.held_files) + " files were read";
    return "  held: " + how + read + (result.hold_doubt.empty() ? "" : "; not a point in time: " + printable_text(result.hold_doubt)) +
           "\n";
}

std::string built_on(const BackupResult& result) {
    const std::string parent = result.manifest.parent ? result.manifest.parent->hex() : "";
    const std::string referred = human_bytes(result.manifest.totals.referenced_bytes) + " are referred to";
    if (result.parent_missing.empty()) {
        return "  only what changed since backup " + parent + " was read; " + referred + "\n";
    }
    const std::string what =
        result.records_told ? "  all but what is never written to again, and hasn't been, was read" : "  everything was read";
    return what + (parent.empty() ? "" : " and compared with backup " + parent + ", " + referred) + ": " +
           printable_text(result.parent_missing) + "\n";
}

// Of --audit. What differed is a warning, and everything was read then.
std::string audited(const BackupResult& result) {
    return "  audited: " +
           (result.audited_all
                ? human_bytes(result.audited_bytes) + " were compared with the snapshot, all that wasn't called changed; nothing differed"
                : std::string("nothing was taken over without reading it")) +
           "\n";
}

std::string went_on_with(const BackupResult& result) {
    if (result.resumed) {
        return "  went on with the backup of that time, which was cut off; " + human_bytes(result.resumed_bytes) +
               " were stored already;\n"
               "  run it again for what has changed since\n";
    }
    return result.resume_refused.empty() ? ""
                                         : "  a backup that was cut off was cleared up: " + printable_text(result.resume_refused) + "\n";
}

void print_summary(std::ostream& out, const BackupResult& result, bool audits) {
    const Manifest& manifest = result.manifest;
    const Manifest::Totals& totals = manifest.totals;
    out << "backup " << manifest.id.hex() << (manifest.damaged ? " is made, but incomplete" : " is made") << '\n'
        << "  " << how_it_was_taken(result) << '\n'
        << went_on_with(result) << how_it_was_held(result) << "  consistency: " << to_string(manifest.consistency) << '\n'
        << "  " << counts_of(totals.files, totals.directories, totals.others) << '\n'
        << "  size " << human_bytes(totals.logical_bytes) << ", read " << human_bytes(totals.read_bytes) << ", stored "
        << human_bytes(totals.stored_bytes) << '\n'
        << built_on(result) << (audits ? audited(result) : "") << "  drained in " << human_duration(result.drain_time) << " at "
        << human_rate(rate_of(result)) << "; " << human_duration(result.total_time) << " in all\n";
    if (totals.unreadable_files != 0) {
        out << "  unreadable files: " << totals.unreadable_files << '\n';
    }
    if (!result.snapshot_path.empty()) {
        out << "  snapshot kept: " << printable_name(result.snapshot_path) << '\n';
    }
    if (!result.io_fallback_reason.empty()) {
        out << "  without io_uring: " << printable_text(result.io_fallback_reason) << '\n';
    }
    if (result.cleared_sessions != 0) {
        out << "  cleared the remains of " << result.cleared_sessions << " unfinished backup(s)\n";
    }
}

void write_result(JsonWriter& document, const BackupResult& result) {
    document.begin_object("backup");
    write_backup(document, result.manifest);
    document.end();
    document.member("snapshot_backend", result.backend);
    document.member("snapshot_backend_reason", result.backend_reason);
    document.name("snapshot_path", result.snapshot_path);
    document.member("held", result.held);
    document.member("hold_doubt", result.hold_doubt);
    document.member("passes", result.passes);
    document.member("held_read_bytes", result.held_read_bytes);
    document.member("held_files", result.held_files);
    document.member("resumed", result.resumed);
    document.member("resumed_bytes", result.resumed_bytes);
    document.member("resume_refused", result.resume_refused);
    document.member("parent_missing", result.parent_missing);
    document.member("audited_bytes", result.audited_bytes);
    document.member("audited_all", result.audited_all);
    document.member("drain_seconds", std::chrono::duration<double>(result.drain_time).count());
    document.member("total_seconds", std::chrono::duration<double>(result.total_time).count());
    document.member("bytes_per_second", rate_of(result));
    document.member("io_uring", result.io_fallback_reason.empty());
    document.member("io_fallback_reason", result.io_fallback_reason);
    document.member("cleared_sessions", result.cleared_sessions);
}

void print_plan(std::ostream& out, const BackupPlan& plan) {
    out << "would read " << human_bytes(plan.read_bytes) << " of " << plan.files << " files, and store ";
    if (plan.stored_bytes) {
        out << human_bytes(*plan.stored_bytes) << '\n';
    } else {
        out << "what of it differs from backup " << plan.parent->hex() << '\n';
    }
    if (plan.parent_missing.empty()) {
        out << "  that is what has changed since backup " << plan.parent->hex() << '\n';
    } else {
        out << "  everything would be read: " << printable_text(plan.parent_missing) << '\n';
    }
    if (plan.resumes) {
        out << "  but first backup " << plan.resumes->hex()
            << ", which was cut off, would be gone on with (or cleared up, with --no-resume)\n";
    }
    out << "  snapshots: " << plan.backend << " (" << printable_text(plan.backend_reason) << ")\n";
}

void write_plan(JsonWriter& document, const BackupPlan& plan) {
    document.member("dry_run", true);
    document.member("snapshot_backend", plan.backend);
    document.member("snapshot_backend_reason", plan.backend_reason);
    document.member("parent", plan.parent ? plan.parent->hex() : "");
    document.member("parent_missing", plan.parent_missing);
    document.member("resumes", plan.resumes ? plan.resumes->hex() : "");
    document.member("files", plan.files);
    document.member("read_bytes", plan.read_bytes);
    if (plan.stored_bytes) {
        document.member("stored_bytes", *plan.stored_bytes);
    }
}

ExitStatus run_plan(Call& call, const Repository& repository, const BackupOptions& options) {
    Progress progress;
    BackupPlan plan;
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        plan = plan_backup(repository, options, progress, call.report());
    }
    if (call.json()) {
        write_plan(call.document(), plan);
    } else if (!call.options().flag("quiet")) {
        print_plan(call.out(), plan);
    }
    return ExitStatus::kDone;
}

ExitStatus run(Call& call) {
    const std::string node_directory = call.positional("NODE_DIR");
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    BackupOptions options = backup_options(call.options(), node_directory);
    // Clearing up after an unfinished backup goes on without what can't be read of it.
    const auto warnings = std::make_shared<DamageWarnings>(call.report(), true);
    Repository repository = open_remembering(open_target(call.options(), place), options.state_directory,
                                             [warnings](const Damage& damage) { (*warnings)(damage); });
    if (call.options().flag("dry-run")) {
        return run_plan(call, repository, options);
    }
    Progress progress;
    BackupResult result;
    {
        ProgressLine line(progress, call.streams().err, call.shows_progress());
        options.lease.waiting = [&](const std::string& why) {
            progress.phase = "waiting for the lock";
            line.say(waiting_text(options.lease.wait, why));
        };
        result = run_backup(repository, options, progress, call.report());
    }
    call.done("backup " + result.manifest.id.hex() + " is made");
    if (call.json()) {
        write_result(call.document(), result);
    } else if (!call.options().flag("quiet")) {
        print_summary(call.out(), result, options.audit);
    }
    return result.manifest.damaged ? ExitStatus::kWarnings : ExitStatus::kDone;
}

}  // namespace

const Command kBackup = {
    "backup",
    "snapshot a node directory and back it up",
    "nodesnap backup NODE_DIR REPOSITORY [OPTION]...\n",
    "Takes a snapshot of the node directory, in milliseconds, and copies the snapshot into the repository while the daemon goes\n"
    "on. The backup becomes visible when all of it is durable; one that fails or is interrupted is gone on with by the next, from its\n"
    "snapshot, or leaves no trace but what the next one clears. On btrfs the snapshot is kept until the next backup, which reads only\n"
    "what has changed since; what the backups have in common is stored once, and each of them is complete.\n"
    "Each backup says what its files are: crash-consistent, of one instant with a daemon running: what was fsynced is there, as\n"
    "after a power cut; point-in-time, when nobody had anything open there, or all who write were held; inconsistent, only by\n"
    "--accept-inconsistent. With --hold the daemon writes nothing while the snapshot is taken, for milliseconds where it is frozen:\n"
    "all that it had written is there, in order. It comes back whatever happens, also if nodesnap is killed; see \"nodesnap help\n"
    "release\". A hold is refused where something else has files of the node open for writing.\n"
    "On XFS with reflink the snapshot is a tree of clones beside the node directory. That isn't made at one instant: without --hold the\n"
    "backup is refused while a file is open for writing, and fails if one is changed while it is cloned; afterwards the daemon may run.\n"
    "On ext4 and XFS on an LVM logical volume whose volume group has free extents, a classic LVM snapshot of the volume is taken, read, "
    "and\n"
    "removed. It keeps what is overwritten meanwhile; should its room (--snapshot-size) not suffice, the backup is given up. On thin\n"
    "volumes it is a thin snapshot, which has the room of its pool, and is kept until the next backup, which reads only what has\n"
    "changed since (thin_delta tells); not where 80 % of the pool are used.\n"
    "On ext4, and on XFS without reflink, of a store that writes its tables once (--immutable, or a --profile that names them), and with\n"
    "--hold, the snapshot is a tree of links: those files get a second name, and the others are copied, while the daemon is held. A file\n"
    "that fits and is open for writing is copied, too; one that is written to before it is stored makes the backup fail. The snapshot\n"
    "holds the space of what the daemon removes, until it is dropped.\n"
    "On any other file system the directory itself is read, and the daemon must be stopped until that is done; or, with --hold on ext4\n"
    "and XFS, it is read in passes while the daemon runs, which is held only while the last of them lists all files and reads those that\n"
    "were just written to: milliseconds where these are small. What can't be read within --max-downtime makes the backup fail. The\n"
    "summary says which it was; --snapshot btrfs, reflink, lvm or hardlink refuse to go without a snapshot.\n"
    "Exclude patterns: with a '/' in it other than at its end, a path from the node directory, otherwise a name in any directory;\n"
    "'*' and '?' fit within a name, \"**\" across directories.\n",
    "nodesnap backup /var/lib/qdb/db /backup/node1\n"
    "nodesnap backup /var/lib/qdb/db /backup/node1 --limit 200M --exclude '*.tmp' --tag nightly --wait-lock 10m\n"
    "nodesnap backup /var/lib/qdb/db /backup/node1 --hold freeze --unit qdbd\n"
    "nodesnap backup /var/lib/rocks /backup/node1 --profile rocksdb --hold freeze --unit rocks\n"
    "nodesnap backup /var/lib/qdb/db /backup/node1 --snapshot none --hold freeze --unit qdbd --max-downtime 2s\n"
    "systemctl stop qdbd && nodesnap backup /var/lib/qdb/db /backup/node1 --snapshot none; systemctl start qdbd\n",
    "0  the backup is made\n"
    "1  failed or interrupted; there is no new backup, the earlier ones are as they were; run again, it goes on where it was; the\n"
    "   daemon runs as before, or the message says that it may not\n"
    "2  wrong usage\n"
    "3  refused, nothing was touched: another node's repository, one inside the node directory, a nested subvolume or mount,\n"
    "   a directory in use, a hold that would be of no use ...\n"
    "4  the backup is made, with warnings: with --hold it may be no point in time, with --skip-unreadable it may be incomplete\n"
    "5  the repository is damaged\n"
    "6  another holds the repository, or has taken it over\n",
    declare_backup,
    run,
};

}  // namespace nodesnap::command
