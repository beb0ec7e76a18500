// nodesnap rollback: puts a snapshot on the node's own storage in the place of the node directory.
#include "snapshot/rollback.h"

#include <chrono>

#include "io/human_time.h"
#include "io/units.h"
#include "snapshot/command/command.h"
#include "snapshot/command/hold_options.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/exclude.h"
#include "snapshot/shell_word.h"

namespace nodesnap::command {
namespace {

constexpr std::chrono::minutes kMaxDowntime(5);

void declare(OptionSet& options) {
    options.value("snapshot", "KIND",
                  "what took it: auto, btrfs, reflink, lvm, lvm-thin or hardlink (default: auto, as nodesnap snapshot)");
    options.value("snapshot-dir", "DIR", "where the snapshots are kept (default: as nodesnap snapshot)");
    declare_profile(options);
    options.list("immutable", "PATTERN",
                 "to undo a rollback where files can't be cloned: those that are never written to again, which needn't be copied (may be "
                 "repeated)");
    options.flag("dry-run", "change nothing; tell what would be done, and refuse what would be refused");
    options.flag("allow-in-use",
                 "although processes have something of it open: they go on with what was there, read-only on btrfs (not of a classic "
                 "logical volume)");
    options.flag("whole-volume", "of a logical volume: although it holds more than the node directory, which goes back too");
    options.flag("allow-stale-mounts", "although it is mounted elsewhere too, where what was there goes on being shown (likewise)");
    options.value("hold", "HOW", "stop: the daemon is stopped before and started afterwards; none (default)");
    options.value("unit", "NAME", "with --hold stop: the daemon's systemd unit");
    declare_stop_commands(options);
    options.value("max-downtime", "DURATION",
                  "after so long the daemon is started, whatever is still to be done (default: 5m); of a classic logical volume what isn't "
                  "copied by then is later, and the snapshot isn't made anew");
    options.value("state-dir", "DIR", "where a hold is noted (default: /var/lib/nodesnap)");
    options.flag("quiet", "no summary");
    options.flag("json", "print the result as a JSON document");
}

hold::Options hold_of(const Options& options, const std::string& node_directory) {
    const std::string mode = options.text("hold", "none");
    if (mode != "none" && mode != "stop") {
        throw Error::usage("--hold: \"" + printable_name(mode) + "\" is not a way to roll back",
                           "stop, or none: a daemon must not run meanwhile");
    }
    hold::Options result = hold_options(options);
    if (!options.given("max-downtime")) {
        result.max_downtime = kMaxDowntime;
    }
    result.state_directory = options.text("state-dir", result.state_directory);
    result.node_directory = node_directory;
    return result;
}

std::string layout_of(const RollbackResult& result) {
    return result.volume.empty() ? to_string(result.layout) : "logical volume";
}

double milliseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1e6;
}

std::string undo_command(const RollbackOptions& options, const RollbackResult& result) {
    std::string patterns;
    for (const std::string& pattern : options.immutable) {
        patterns += " --immutable " + shell_word(pattern);
    }
    return "nodesnap rollback " + shell_word(options.node_directory) + " " + result.kept_as +
           (options.kind == "auto" ? "" : " --snapshot " + options.kind) +
           (options.snapshot_directory.empty() ? "" : " --snapshot-dir " + shell_word(options.snapshot_directory)) + patterns;
}

void write_subvolume(JsonWriter& document, const char* name, std::uint64_t id) {
    if (id != 0) {
        document.member(name, id);
    } else {
        document.null(name);
    }
}

void write_result(JsonWriter& document, const RollbackOptions& options, const RollbackResult& result) {
    document.name("node_directory", options.node_directory);
    document.member("dry_run", options.dry_run);
    document.member("snapshot", result.snapshot.name);
    document.name("snapshot_path", result.snapshot.path);
    document.member("snapshot_time", format_utc(result.snapshot.created_ns));
    document.member("layout", layout_of(result));
    if (result.volume.empty()) {
        document.null("volume");
    } else {
        document.member("volume", result.volume);
    }
    document.member("kept_as", result.kept_as);
    document.name("kept_path", result.kept_path);
    write_subvolume(document, "replaced_subvolume", result.replaced_subvolume);
    write_subvolume(document, "subvolume", result.subvolume);
    document.begin_array("stale_mounts");
    for (const std::string& mount : result.stale_mounts) {
        document.element(mount);
    }
    document.end();
    document.member("exchange_ms", milliseconds(result.exchange_time));
    document.member("total_ms", milliseconds(result.total_time));
    if (result.downtime) {
        document.member("downtime_ms", milliseconds(*result.downtime));
    } else {
        document.null("downtime_ms");
    }
}

void print_plan(std::ostream& out, const RollbackOptions& options, const RollbackResult& result) {
    out << "would roll back " << printable_name(options.node_directory) << " (" << layout_of(result) << ") to the snapshot "
        << printable_name(result.snapshot.name) << " of " << human_time(result.snapshot.created_ns) << " UTC\n"
        << "  what is there now would be kept as a snapshot, before-rollback-...\n";
    for (const std::string& mount : result.stale_mounts) {
        out << "  " << printable_text(mount) << " would go on showing it\n";
    }
}

void print_summary(std::ostream& out, const RollbackOptions& options, const RollbackResult& result) {
    out << "rolled back " << printable_name(options.node_directory) << " to the snapshot " << printable_name(result.snapshot.name) << " of "
        << human_time(result.snapshot.created_ns) << " UTC; it shows "
        << (result.subvolume != 0 ? "subvolume " + std::to_string(result.subvolume) : "that") << ", as it should\n"
        << "  exchanged in " << human_duration(result.exchange_time) << ", all in " << human_duration(result.total_time);
    if (result.downtime) {
        out << "; the daemon was down for " << human_duration(*result.downtime);
    }
    out << "\n  what was there before is the snapshot " << printable_name(result.kept_as) << "; to undo:\n"
        << "    " << printable_text(undo_command(options, result)) << '\n';
}

ExitStatus run(Call& call) {
    RollbackOptions options;
    options.node_directory = call.positional("NODE_DIR");
    options.snapshot = call.positional("SNAPSHOT");
    call.end_of_positionals();
    options.snapshot_directory = call.options().text("snapshot-dir");
    options.kind = call.options().text("snapshot", "auto");
    options.immutable = call.options().list("immutable");
    const ExcludeRules check_immutable(options.immutable);
    options.dry_run = call.options().flag("dry-run");
    options.allow_in_use = call.options().flag("allow-in-use");
    options.whole_volume = call.options().flag("whole-volume");
    options.allow_stale_mounts = call.options().flag("allow-stale-mounts");
    options.hold = hold_of(call.options(), options.node_directory);
    Progress progress;
    RollbackResult result;
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = run_rollback(options, progress, call.report());
    }
    if (!options.dry_run) {
        call.done("the node directory is rolled back to " + result.snapshot.name);
    }
    if (call.json()) {
        write_result(call.document(), options, result);
    } else if (options.dry_run) {
        print_plan(call.out(), options, result);
    } else if (!call.options().flag("quiet")) {
        print_summary(call.out(), options, result);
    }
    return ExitStatus::kDone;
}

}  // namespace

const Command kRollback = {
    "rollback",
    "put a snapshot on the node's own storage in the place of the node directory",
    "nodesnap rollback NODE_DIR SNAPSHOT [OPTION]...\n",
    "SNAPSHOT is a name that nodesnap snapshot list shows, also of one that a backup keeps, or \"latest\": the newest that isn't what an\n"
    "earlier rollback has replaced. A subvolume of btrfs is replaced by a writable clone of it, in milliseconds, whatever the size, and\n"
    "what was there becomes a read-only snapshot; a plain folder (XFS with reflink, a part of a btrfs subvolume, snapshots made of\n"
    "links) by a tree that is made of the snapshot beforehand, and what was there is kept as it is. Either way in one step, and as\n"
    "before-rollback-TIME; rolling back to that undoes it. A thin logical volume (--snapshot lvm-thin) goes back as a whole, with all\n"
    "that lies on it; what was there stays, under that name, as a read-only volume. So does a classic one (--snapshot lvm), by a merge:\n"
    "it is unmounted until all is copied that was overwritten since the snapshot was taken, which may take long (see --max-downtime).\n"
    "When it is cut off, the directory is either as it was or that of the snapshot; the next rollback, snapshot list or backup says\n"
    "which, and clears up. The daemon must be stopped: do it yourself, or let --hold stop do it. A mounted subvolume or volume is\n"
    "mounted anew; other mounts of it, also in other mount namespaces, are refused, since they would go on showing what was there. The\n"
    "root of any other mount can't be rolled back. The next backup reads only what differs from the last one (of a folder on btrfs,\n"
    "with snapshots of its subvolume, everything).\n",
    "nodesnap rollback /var/lib/qdb/db before-upgrade --dry-run\n"
    "nodesnap rollback /var/lib/qdb/db before-upgrade --hold stop --unit qdbd\n"
    "nodesnap rollback /var/lib/qdb/db before-rollback-20240531T143005Z\n"
    "nodesnap rollback /var/lib/qdb before-upgrade --snapshot lvm-thin --hold stop --unit qdbd\n"
    "nodesnap rollback /var/lib/qdb before-upgrade --snapshot lvm --hold stop --unit qdbd --max-downtime 1h\n"
    "nodesnap rollback /var/lib/rocks before-rollback-20240531T143005Z --profile rocksdb\n",
    "0  rolled back\n"
    "1  failed: the directory is as it was, unless the message says otherwise\n"
    "2  wrong usage\n"
    "3  refused, nothing was touched: no such snapshot, the directory is in use, mounted elsewhere, the root of a mount, on storage\n"
    "   without such snapshots, on a volume with more than that, or holds subvolumes, mounts or an unfinished restore; there is no space\n"
    "   for what must be copied, or kept\n"
    "4  rolled back, with warnings: something still shows or uses what was there before, something was left out of the snapshot, or an\n"
    "   earlier rollback had been cut off\n",
    declare,
    run,
};

}  // namespace nodesnap::command
