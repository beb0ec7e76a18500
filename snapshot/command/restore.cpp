// nodesnap restore: rebuilds a node directory, or parts of it, from a backup.
#include "snapshot/restore.h"

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/hold/release.h"
#include "snapshot/restore/captured.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    declare_as_of(options);
    declare_profile(options);
    options.list("path", "PATH", "restore only this file or directory, relative to the node directory (may be repeated)");
    options.flag("delta", "make an existing directory what the backup says, writing only what differs, in a clone that takes its place");
    options.flag("in-place", "with --delta: write into the directory itself, where nothing can be cloned");
    options.flag("keep-old", "with --delta: keep the old directory as DESTINATION.before-restore");
    options.flag("no-snapshot", "with --delta: compare everything, even where a local snapshot tells what differs");
    options.flag("dry-run", "change nothing; tell what would be restored, the space it needs and about how long it takes");
    options.flag("numeric-ids", "owners by their numbers, not by their names");
    options.list("owner-map", "user:A=B", "what belonged to user A becomes user B's; group:A=B likewise (may be repeated)");
    options.list("gate-file", "NAME", "a file that makes the directory a database: put in place last (default: CURRENT, PG_VERSION)");
    options.value("captured", "DIR",
                  "put the files that the backup has captured from elsewhere (backup --capture) into this new directory");
    options.flag("accept-incomplete",
                 "zeros for what the backup hasn't got: not read when it was made (it is marked incomplete), or damaged since (with "
                 "--delta: what is there of it stays)");
    options.value("version-command", "COMMAND", "prints the version of the engine that is installed here, which must not be older");
    options.flag("allow-older-engine", "restore though the engine that is installed here is older than the one that was backed up");
    options.flag("allow-other-node", "restore to a place where this host backs up another node");
    options.flag("allow-in-use", "restore though processes have something of the directory open: they go on with what was there");
    options.flag("allow-low-space", "restore though there seems to be too little space, as where the file system compresses");
    options.value("limit", "RATE", "read and write at most so many bytes a second, as in 200M (default: no limit)");
    options.value("workers", "N", "threads that move data, 1 to 8 (default: one for each CPU or connection, at most 4)");
    declare_io_uring(options);
    options.value("state-dir", "DIR", "where this host remembers its nodes, and what is held for a backup (default: /var/lib/nodesnap)");
    options.flag("quiet", "no progress line and no summary");
    options.flag("json", "print the result as a JSON document");
}

OwnerOptions owners_of(const Options& options) {
    OwnerOptions owners;
    owners.numeric_ids = options.flag("numeric-ids");
    for (const std::string& entry : options.list("owner-map")) {
        const auto colon = entry.find(':');
        const auto equals = entry.find('=', colon == std::string::npos ? 0 : colon);
        const std::string kind = entry.substr(0, colon);
        if (colon == std::string::npos || equals == std::string::npos || (kind != "user" && kind != "group") || equals == colon + 1 ||
            equals + 1 == entry.size()) {
            throw Error::usage("--owner-map: \"" + printable_name(entry) + "\" is not user:A=B or group:A=B",
                               "A and B are names or numbers, as in user:qdb=qdb2 or group:1001=998");
        }
        auto& map = kind == "user" ? owners.users : owners.groups;
        const auto from = entry.substr(colon + 1, equals - colon - 1);
        const auto to = entry.substr(equals + 1);
        if (const auto [known, added] = map.emplace(from, to); !added && known->second != to) {
            throw Error::usage("--owner-map: " + kind + " " + printable_name(from) + " is to become both " + printable_name(known->second) +
                               " and " + printable_name(to));
        }
    }
    return owners;
}

RestoreOptions options_of_call(const Options& options) {
    RestoreOptions result;
    result.paths = options.list("path");
    result.owners = owners_of(options);
    if (options.given("gate-file")) {
        result.gate_files = options.list("gate-file");
        for (const std::string& name : result.gate_files) {
            if (name.find('/') != std::string::npos || name == "." || name == "..") {
                throw Error::usage("--gate-file: \"" + printable_name(name) + "\" is not the name of a file in the node directory",
                                   "the name alone, without a path, as in CURRENT");
            }
        }
    }
    result.delta = options.flag("delta");
    result.in_place = options.flag("in-place");
    result.keep_old = options.flag("keep-old");
    result.use_snapshots = !options.flag("no-snapshot");
    if (!result.delta && (result.in_place || result.keep_old || !result.use_snapshots)) {
        throw Error::usage("--in-place, --keep-old and --no-snapshot are options of --delta");
    }
    if (result.in_place && result.keep_old) {
        throw Error::usage("--keep-old can't be done with --in-place: what is there is written over");
    }
    result.version_command = options.text("version-command");
    result.allow_older_engine = options.flag("allow-older-engine");
    result.allow_other_node = options.flag("allow-other-node");
    result.allow_in_use = options.flag("allow-in-use");
    result.allow_low_space = options.flag("allow-low-space");
    result.state_directory = options.text("state-dir", "/var/lib/nodesnap");
    result.dry_run = options.flag("dry-run");
    result.force_blocking = options.flag("no-io-uring");
    result.accept_incomplete = options.flag("accept-incomplete");
    result.workers = options.count("workers", 1, RestoreOptions::kWorkersLimit, 0);
    result.limit_bytes_per_second = options.rate("limit");
    return result;
}

double rate_of(const RestoreResult& result) {
    const double seconds = std::chrono::duration<double>(result.elapsed).count();
    return seconds > 0 ? static_cast<double>(result.bytes) / seconds : 0;
}

void print_counts(std::ostream& out, const RestoreResult& result) {
    out << "  " << counts_of(result.files, result.directories, result.others) << '\n';
}

std::string basis_of(const RestoreResult& result) {
    return result.basis == "snapshot" ? "the local snapshot of backup " + result.basis_backup
           : result.basis == "clone"  ? "a clone of what was there, compared block by block"
                                      : "what was there, compared block by block";
}

void print_delta(std::ostream& out, const RestoreResult& result) {
    if (result.basis.empty()) {
        return;
    }
    out << "  beginning with " << basis_of(result) << ": " << result.files_created << " files created, " << result.files_changed
        << " changed, " << result.files_removed << " removed\n";
    if (!result.old_kept_as.empty()) {
        out << "  what was there before: " << printable_name(result.old_kept_as) << '\n';
    }
}

void print_plan(std::ostream& out, const Manifest& manifest, const RestoreOptions& options, const RestoreResult& result) {
    out << "would restore backup " << manifest.id.hex() << " of " << utc(manifest.snapshot_time_ns) << " UTC to "
        << printable_name(options.destination) << '\n';
    print_counts(out, result);
    print_delta(out, result);
    out << "  bytes to write: " << human_bytes(result.bytes)
        << (result.basis.empty() ? "; space needed: " : "; space needed at most, with file system metadata: ")
        << human_bytes(result.required_bytes) << '\n'
        << "  estimated time: " << human_duration(result.estimate) << '\n';
}

void print_summary(std::ostream& out, const Manifest& manifest, const RestoreOptions& options, const RestoreResult& result) {
    out << "restored backup " << manifest.id.hex() << " of " << utc(manifest.snapshot_time_ns) << " UTC to "
        << printable_name(options.destination) << " (" << printable_text(result.placed_as) << ")\n";
    print_counts(out, result);
    out << "  " << human_bytes(result.bytes) << (result.basis.empty() ? " in " : " written in ") << human_duration(result.elapsed) << ", "
        << human_rate(rate_of(result)) << '\n';
    print_delta(out, result);
    if (!result.lost.empty()) {
        out << (result.basis.empty() ? "  incomplete: zeros stand for what the backup hasn't got\n"
                                     : "  incomplete: zeros, or what was there before, stand for what the backup hasn't got\n");
    }
    if (result.resumed) {
        out << "  went on with a restore that had been cut off\n";
    }
    if (!result.io_fallback_reason.empty()) {
        out << "  without io_uring: " << printable_text(result.io_fallback_reason) << '\n';
    }
}

void write_lost(JsonWriter& document, const RestoreResult& result) {
    document.member("lost_count", result.lost.size() + result.lost_further);
    document.begin_array("lost");
    for (const auto& range : result.lost) {
        document.begin_object();
        document.name("path", range.path);
        document.member("offset", range.offset);
        document.member("length", range.length);
        document.member("cause", range.cause == LostRange::Cause::kSource ? "unread" : "damaged");
        document.member("kept", range.cause == LostRange::Cause::kKept);
        document.end();
    }
    document.end();
}

void write_result(JsonWriter& document, const Manifest& manifest, const RestoreOptions& options, const RestoreResult& result) {
    document.member("backup", manifest.id.hex());
    document.member("snapshot_time", format_utc_precise(manifest.snapshot_time_ns));
    document.name("destination", options.destination);
    document.member("dry_run", options.dry_run);
    document.member("placed_as", result.placed_as);
    document.member("resumed", result.resumed);
    document.member("files", result.files);
    document.member("directories", result.directories);
    document.member("others", result.others);
    document.member("bytes", result.bytes);
    document.member("delta", !result.basis.empty());
    document.member("basis", result.basis);
    document.member("basis_backup", result.basis_backup);
    document.member("kept_bytes", result.kept_bytes);
    document.member("files_created", result.files_created);
    document.member("files_changed", result.files_changed);
    document.member("files_removed", result.files_removed);
    document.member("old_kept_as", result.old_kept_as);
    document.member("required_bytes", result.required_bytes);
    document.member("elapsed_seconds", std::chrono::duration<double>(result.elapsed).count());
    document.member("bytes_per_second", rate_of(result));
    document.member("estimated_seconds", std::chrono::duration<double>(result.estimate).count());
    document.member("io_uring", result.io_fallback_reason.empty());
    document.member("io_fallback_reason", result.io_fallback_reason);
    write_lost(document, result);
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    const BackupChoice choice(call);
    RestoreOptions options = options_of_call(call.options());
    options.destination = call.positional("DESTINATION");
    call.end_of_positionals();
    hold::refuse_held(options.state_directory, options.destination);
    Repository repository = open_repository(call, place);
    const Manifest manifest = choice.find(repository);
    const std::string captured = call.options().text("captured");
    if (!captured.empty()) {
        require_place_of_captured(manifest, captured);
    }
    Progress progress;
    RestoreResult result;
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = run_restore(repository, manifest, options, progress, call.report());
    }
    if (!options.dry_run) {
        if (!captured.empty()) {
            try {
                restore_captured(manifest, captured);
            } catch (const Error& error) {  // the node is in place by now
                call.report().warn("the captured files weren't all restored: " + error.message());
            }
        }
        call.done("backup " + manifest.id.hex() + " is restored to " + options.destination);
    }
    if (call.json()) {
        write_result(call.document(), manifest, options, result);
    } else if (options.dry_run) {
        print_plan(call.out(), manifest, options, result);
    } else if (!call.options().flag("quiet")) {
        print_summary(call.out(), manifest, options, result);
    }
    return ExitStatus::kDone;
}

}  // namespace

const Command kRestore = {
    "restore",
    "rebuild a node directory from a backup",
    "nodesnap restore REPOSITORY BACKUP DESTINATION [OPTION]...\n"
    "nodesnap restore REPOSITORY --as-of TIME DESTINATION [OPTION]...\n",
    "Restores the whole node directory, or what --path names, to DESTINATION, which must be empty or not there. Every block is\n"
    "verified before it is written. The result is put in place when all of it is durable, the gate file last: a restore that is\n"
    "cut off is never mistaken for a finished one, and goes on when the same command is run again. At damaged data it stops; with\n"
    "--accept-incomplete it goes on, puts zeros for the blocks that are lost, and names each file and range (with --delta, data that is\n"
    "there stays in their place, and the old directory with it). On btrfs the result is a subvolume. Owners are found by name first; what "
    "the destination can't hold is reported. Needs no lock and no write access\n"
    "to the repository.\n"
    "With --delta DESTINATION may hold something: it becomes what the backup says, and only what differs is written, into a clone\n"
    "that is exchanged for it when it is complete (the old directory is then removed, or kept with --keep-old), or, with --in-place,\n"
    "into the directory itself, its gate files moved away first and put back last.\n",
    "nodesnap restore /backup/node1 latest /var/lib/qdb/db\n"
    "nodesnap restore /backup/node1 --as-of 2024-05-31 /tmp/old --path data/conf --dry-run\n"
    "nodesnap restore /backup/node1 latest /var/lib/qdb/db --delta --keep-old\n"
    "nodesnap restore /backup/node1 0a1b2c /srv/test/db --owner-map user:qdb=tester --owner-map group:qdb=tester\n",
    "0  restored\n"
    "1  failed or interrupted; run it again to go on\n"
    "2  wrong usage\n"
    "3  refused, nothing was touched: destination not empty (without --delta), in use, too small or another node's place, the\n"
    "   engine here is older, --path names what the backup doesn't hold, or something of it could not be read when the backup\n"
    "   was made\n"
    "4  restored, with warnings: zeros stand for what is lost (--accept-incomplete), something the destination can't hold,\n"
    "   something stored twice has lost a copy, a newer backup's manifest can't be read, or the destination lies inside the\n"
    "   node directory\n"
    "5  the backup is damaged: not restored\n",
    declare,
    run,
};

}  // namespace nodesnap::command
