// nodesnap snapshot: makes, lists, removes and bounds snapshots of a node directory on its own storage.
#include <algorithm>
#include <chrono>
#include <optional>

#include "io/units.h"
#include "platform/interrupt.h"
#include "snapshot/backend/backend.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/command/snapshot_size.h"
#include "snapshot/command/snapshot_trim.h"
#include "snapshot/rollback.h"
#include "snapshot/trim.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.value("snapshot", "KIND", "what takes it: auto, btrfs, reflink, lvm-thin, lvm or hardlink (default: auto)");
    options.value("snapshot-dir", "DIR",
                  "where snapshots are kept (default: a place beside the node's directory or subvolume, see the guide)");
    options.list(
        "exclude", "PATTERN",
        "with create: a nested subvolume or mount that may be missing in the snapshot, or what needn't be cloned (may be repeated)");
    declare_snapshot_size(options);
    declare_profile(options);
    options.list("immutable", "PATTERN",
                 "with create: files that are never written to again, which --snapshot hardlink links (may be repeated)");
    declare_trim(options);
    options.flag("json", "print a JSON document");
}

void write_entry(JsonWriter& document, const SnapshotEntry& entry) {
    document.member("name", entry.name);
    document.name("path", entry.path);
    document.member("created_time", format_utc(entry.created_ns));
    document.member("temporary", entry.temporary);
}

// "20240531T143005Z", or with "-2" behind it when another was made in the same second.
std::string name_of_now(SnapshotBackend& backend) {
    std::string now = format_utc(utc_now());
    std::erase_if(now, [](char c) { return c == '-' || c == ':'; });
    const auto entries = backend.list();
    const auto taken = [&](const std::string& name) {
        return std::any_of(entries.begin(), entries.end(), [&](const SnapshotEntry& entry) { return entry.name == name; });
    };
    std::string name = now;
    for (int number = 2; taken(name); ++number) {
        name = now + "-" + std::to_string(number);
    }
    return name;
}

void check_name(const std::string& name) {
    constexpr std::size_t kLongest = 200;
    constexpr const char* kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (name.size() > kLongest || name.find_first_not_of(kAllowed) != std::string::npos || name.starts_with(".") || name.starts_with("-")) {
        throw Error::usage("\"" + shortened(printable_name(name)) + "\" is not a name for a snapshot",
                           "up to 200 letters, digits, '.', '_' and '-', beginning with a letter or digit");
    }
}

ExitStatus create(Call& call, SnapshotBackend& backend, const std::string& name) {
    const auto snapshot = backend.create(name.empty() ? name_of_now(backend) : name, false);
    snapshot->keep();
    call.done("the snapshot " + snapshot->entry().name + " is made");
    const double milliseconds = static_cast<double>(snapshot->duration_ns()) / 1e6;
    if (call.json()) {
        JsonWriter& document = call.document();
        write_entry(document, snapshot->entry());
        document.member("taken_time", format_utc_precise(snapshot->taken_ns()));
        document.member("snapshot_ms", milliseconds);
        document.member("consistency", to_string(snapshot->consistency()));
    } else {
        call.out() << "made snapshot " << printable_name(snapshot->entry().name) << " in "
                   << human_duration(std::chrono::nanoseconds(snapshot->duration_ns())) << " (" << to_string(snapshot->consistency())
                   << ")\n"
                   << "path: " << printable_name(snapshot->entry().path) << '\n';
    }
    return ExitStatus::kDone;
}

// Who may not read the file system's trees can list all the same.
std::optional<std::uint64_t> held_by(SnapshotBackend& backend, const SnapshotEntry& entry) {
    try {
        const HeldSpace held = backend.held_space(entry);
        return held.alone_bytes + held.elsewhere_bytes;
    } catch (const Error&) {
        throw_if_interrupted();
        return std::nullopt;
    }
}

ExitStatus list(Call& call, SnapshotBackend& backend) {
    const auto snapshots = classify(backend.list(), known_repositories(call));
    const std::int64_t now = utc_now();
    if (call.json()) {
        call.document().name("location", backend.describe_location());
        call.document().begin_array("snapshots");
    }
    for (const ClassifiedSnapshot& snapshot : snapshots) {
        const auto held = held_by(backend, snapshot.entry);
        const std::chrono::nanoseconds age(std::max<std::int64_t>(0, now - snapshot.entry.created_ns));
        if (!call.json()) {
            call.out() << utc(snapshot.entry.created_ns) << "  " << printable_name(snapshot.entry.name) << "  "
                       << printable_name(snapshot.entry.path) << "  (" << describe_role(snapshot) << ", " << human_duration(age)
                       << " old, holds " << (held ? "about " + human_bytes(*held) : "an unknown amount")
                       << (snapshot.entry.in_use ? ", in use" : "") << ")\n";
            continue;
        }
        JsonWriter& document = call.document();
        document.begin_object();
        write_snapshot(document, snapshot);
        document.member("age_seconds", std::chrono::duration_cast<std::chrono::seconds>(age).count());
        if (held) {
            document.member("held_bytes", *held);
        } else {
            document.null("held_bytes");
        }
        document.end();
    }
    if (call.json()) {
        call.document().end();
    } else if (snapshots.empty()) {
        call.out() << "no snapshots in " << printable_name(backend.describe_location()) << '\n';
    }
    return ExitStatus::kDone;
}

ExitStatus remove(Call& call, SnapshotBackend& backend, const std::string& name) {
    backend.remove(name);
    call.done("the snapshot " + name + " is removed");
    if (call.json()) {
        call.document().member("removed", name);
    } else {
        call.out() << "removed snapshot " << printable_name(name) << '\n';
    }
    return ExitStatus::kDone;
}

ExitStatus run(Call& call) {
    const std::string action = call.positional("ACTION (create, list, remove or trim)");
    const std::vector<std::string> actions = {"create", "list", "remove", "trim"};
    if (std::find(actions.begin(), actions.end(), action) == actions.end()) {
        throw Error::usage("unknown action \"" + printable_name(action) + "\"", suggestion(action, actions));
    }
    const std::string directory = call.positional("NODE_DIR");
    const std::string name = action == "list" || action == "trim" ? ""
                             : action == "remove"                 ? call.positional("NAME")
                                                                  : call.optional_positional("NAME");
    call.end_of_positionals();
    check_name(name);
    if (action != "trim") {
        refuse_trim_options(call.options(), action);
    }
    BackendOptions options;
    options.kind = call.options().text("snapshot", "auto");
    const std::vector<std::string>& kinds = snapshot_kinds();
    if (options.kind == "none" || (options.kind != "auto" && std::find(kinds.begin(), kinds.end(), options.kind) == kinds.end())) {
        throw Error::usage("--snapshot: \"" + printable_name(options.kind) + "\" can't make snapshots",
                           "auto, btrfs, reflink, lvm-thin, lvm and hardlink can");
    }
    options.snapshot_bytes = snapshot_size(call.options());
    options.immutable = call.options().list("immutable");
    options.must_snapshot = true;
    options.preflight = action == "create";
    options.snapshot_directory = call.options().text("snapshot-dir");
    const ExcludeRules excludes(call.options().list("exclude"));
    finish_rollback(directory, options.snapshot_directory, call.report());
    const auto backend = choose_backend(directory, excludes, options);
    if (action == "create") {
        return create(call, *backend, name);
    }
    if (action == "trim") {
        TrimOptions trim_options = read_trim_options(call.options(), directory);
        trim_options.known = known_repositories(call);
        return trim(call, *backend, trim_options, directory);
    }
    return action == "list" ? list(call, *backend) : remove(call, *backend, name);
}

}  // namespace

const Command kSnapshot = {
    "snapshot",
    "make, list, remove and bound snapshots on the node's own storage",
    "nodesnap snapshot create NODE_DIR [NAME] [OPTION]...\n"
    "nodesnap snapshot list NODE_DIR [OPTION]...\n"
    "nodesnap snapshot remove NODE_DIR NAME [OPTION]...\n"
    "nodesnap snapshot trim NODE_DIR [--min-free SIZE|PERCENT] [--max-age AGE] [--max-count N] [OPTION]...\n",
    "Such a snapshot is taken in milliseconds and takes no space at first, but it lies on the node's own disk and is lost with it:\n"
    "it is no backup. On XFS with reflink it is a tree of clones, which is only taken while nobody has a file open for writing;\n"
    "so is one of links (--snapshot hardlink), of ext4 and of stores whose files are mostly never written to again. On an LVM\n"
    "volume it has the room that --snapshot-size gives it, and becomes invalid when more is overwritten.\n"
    "A NAME is made from the time if none is given. Those that backups make for themselves are listed too; what a dead backup left is\n"
    "removed by the next one. list tells what each one is, how old, and about how much would come free without it.\n"
    "trim is made for a timer: it drops parents, the snapshots that backups keep to tell the next ones what has changed, the oldest\n"
    "first, until the bounds are kept, and says what each costs: the next backup reads the whole node, and stores what differs. What\n"
    "an operator made or kept is never dropped, nor what a running backup uses. What an unfinished backup left, from which the next could\n"
    "go on, goes last, for space only unless it is older than 30 days; where no --repository tells which that is, the newest of each.\n",
    "nodesnap snapshot create /var/lib/qdb/db before-upgrade\n"
    "nodesnap snapshot list /var/lib/qdb/db\n"
    "nodesnap snapshot trim /var/lib/qdb/db --min-free 10% --max-age 7d --repository /backup/node1\n",
    "0  done\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  refused: the storage has no snapshots, or clones its files while one is open for writing, the directory holds a nested\n"
    "   subvolume or mount, a snapshot of that name is there already (create), none is, or a backup uses it (remove)\n"
    "4  trim: done, but --min-free could not be reached, the snapshot of an unfinished backup was dropped, or a --repository can't be "
    "read\n",
    declare,
    run,
};

}  // namespace nodesnap::command
