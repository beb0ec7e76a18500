#include "snapshot/command/backup_options.h"

#include <algorithm>
#include <optional>
#include <sstream>

#include "platform/file.h"
#include "snapshot/command/hold_options.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/command/snapshot_size.h"

namespace nodesnap::command {

void declare_backup(OptionSet& options) {
    options.value(
        "snapshot", "KIND",
        "btrfs; reflink: clone all files (XFS), while nobody writes to them; lvm-thin, lvm: of the logical volume that ext4 or XFS lies "
        "on, into its pool or the free extents of its volume group; hardlink: link those that fit --immutable (ext4, XFS) and copy the "
        "others, while nobody writes to them; none: read the directory itself, of a stopped daemon, or in passes with --hold; auto: the "
        "first of these that can be had (default: auto)");
    options.value("snapshot-dir", "DIR",
                  "where the snapshot is made (default: a place beside the node's directory or subvolume, see the guide)");
    declare_profile(options);
    declare_snapshot_size(options);
    options.list("immutable", "PATTERN",
                 "files that fit are never written to again once they are closed, as the tables of LSM stores: what hardlink links (may be "
                 "repeated)");
    declare_hold(options);
    options.list("exclude", "PATTERN", "leave out what fits (may be repeated); a '/' at the end: only directories");
    options.list("exclude-from", "FILE", "read patterns from FILE, one a line; empty lines and lines with '#' first don't count");
    options.list("tag", "TAG", "mark the backup (may be repeated)");
    options.value("limit", "RATE", "read and write at most so many bytes a second, as in 200M (default: no limit)");
    options.flag("skip-unreadable", "go on when parts of a file can't be read; the backup is marked incomplete");
    options.flag("keep-snapshot", "keep the snapshot on the node's own storage until it is removed by `nodesnap snapshot remove`");
    options.flag("drop-snapshot", "keep no snapshot for the next backup, which then reads everything");
    options.flag("accept-inconsistent",
                 "without a snapshot, or with clones or links: back up a directory that is in use, and say so in the backup");
    options.value("need", "CONSISTENCY",
                  "refuse where the backup can't have it: point-in-time or crash-consistent (default: any that isn't inconsistent)");
    options.value("version-command", "COMMAND",
                  "prints the version of the engine, which is noted: no restore is to be opened by an older one");
    options.list("capture", "PATH",
                 "keep this file, or all files of this directory, from outside the node directory with the backup: the daemon's "
                 "configuration, keys (may be repeated; 64 KiB in all)");
    options.flag("audit", "read everything, and tell each range that differs although the file system's change list called it unchanged");
    options.flag("dry-run", "tell what would be read and stored; nothing is written, and no snapshot taken");
    options.flag("full", "read and store everything anew, also what earlier backups hold: heals what is damaged of these");
    options.flag("no-resume", "begin anew where a backup that was cut off could be gone on with");
    options.flag("adopt-node", "the node has moved: to another host, file system or path");
    declare_workers(options);
    options.value("scratch-dir", "DIR", "for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
    options.value("state-dir", "DIR", "where this host remembers its nodes (default: /var/lib/nodesnap)");
    declare_lease(options);
    options.flag("quiet", "no progress line and no summary");
    options.flag("json", "print the result as a JSON document");
}

namespace {

std::string text_of_patterns(const std::string& file) {
    constexpr std::size_t kLongest = 1U << 20;
    std::optional<std::string> text;
    try {
        text = read_small_file(file, kLongest + 1);
    } catch (const Error& error) {
        throw Error::usage("--exclude-from: " + error.message(), error.hint());
    }
    if (!text) {
        throw Error::usage("--exclude-from: there is no file " + file);
    }
    if (text->size() > kLongest) {
        throw Error::usage("--exclude-from: " + file + " is longer than 1 MiB");
    }
    return std::move(*text);
}

// As in .gitignore: what other systems end lines with doesn't count, nor do blanks at the end but one behind a backslash.
void trim_end(std::string& line) {
    if (line.ends_with('\r')) {
        line.pop_back();
    }
    while (line.ends_with(' ') || line.ends_with('\t')) {
        std::size_t backslashes = 0;
        while (backslashes + 1 < line.size() && line[line.size() - 2 - backslashes] == '\\') {
            ++backslashes;
        }
        if (backslashes % 2 == 1) {
            return;
        }
        line.pop_back();
    }
}

std::vector<std::string> patterns_of(const Options& options) {
    std::vector<std::string> patterns = options.list("exclude");
    for (const std::string& file : options.list("exclude-from")) {
        std::istringstream lines(text_of_patterns(file));
        for (std::string line; std::getline(lines, line);) {
            trim_end(line);
            if (!line.empty() && line.front() != '#') {
                patterns.push_back(line);
            }
        }
    }
    const ExcludeRules check(patterns);
    return patterns;
}

std::vector<std::string> tags_of(const Options& options) {
    constexpr std::size_t kLongest = 128;
    std::vector<std::string> tags;
    for (const std::string& tag : options.list("tag")) {
        if (tag.empty() || tag.size() > kLongest || printable_name(tag) != tag || tag.find_first_of(", ") != std::string::npos) {
            throw Error::usage("--tag: \"" + shortened(printable_name(tag)) + "\" is not a tag",
                               "up to 128 bytes without blanks, commas and controls");
        }
        if (std::find(tags.begin(), tags.end(), tag) == tags.end()) {
            tags.push_back(tag);
        }
    }
    return tags;
}

Consistency needed_consistency(const Options& options) {
    const std::string text = options.text("need", to_string(Consistency::kInconsistent));
    for (const Consistency consistency : {Consistency::kPointInTime, Consistency::kCrashConsistent}) {
        if (text == to_string(consistency)) {
            return consistency;
        }
    }
    if (options.given("need")) {
        throw Error::usage("--need: \"" + text + "\" is no consistency to be needed", "point-in-time and crash-consistent are");
    }
    return Consistency::kInconsistent;
}

}  // namespace

BackupOptions backup_options(const Options& options, const std::string& node_directory) {
    BackupOptions result;
    result.node_directory = node_directory;
    result.backend.kind = options.text("snapshot", "auto");
    const std::vector<std::string>& kinds = snapshot_kinds();
    if (result.backend.kind != "auto" && std::find(kinds.begin(), kinds.end(), result.backend.kind) == kinds.end()) {
        throw Error::usage("--snapshot: \"" + result.backend.kind + "\" is not a kind of snapshot",
                           "auto, btrfs, reflink, lvm-thin, lvm, hardlink and none are");
    }
    result.backend.snapshot_bytes = snapshot_size(options);
    result.backend.snapshot_directory = options.text("snapshot-dir");
    result.backend.immutable = options.list("immutable");
    const ExcludeRules check_immutable(result.backend.immutable);
    result.backend.accept_inconsistent = options.flag("accept-inconsistent");
    result.hold = hold_options(options);
    result.excludes = patterns_of(options);
    result.tags = tags_of(options);
    result.profile = options.text("profile");
    result.capture = options.list("capture");
    result.version_command = options.text("version-command");
    result.needed = needed_consistency(options);
    result.limit_bytes_per_second = options.rate("limit");
    result.skip_unreadable = options.flag("skip-unreadable");
    result.keep_snapshot = options.flag("keep-snapshot");
    result.backend.must_last = result.keep_snapshot;
    result.drop_snapshot = options.flag("drop-snapshot");
    if (result.backend.kind == "none" && (result.keep_snapshot || result.drop_snapshot)) {
        throw Error::usage("--snapshot none takes no snapshot that could be kept or dropped");
    }
    if (result.keep_snapshot && result.drop_snapshot) {
        throw Error::usage("--keep-snapshot and --drop-snapshot contradict each other");
    }
    result.audit = options.flag("audit");
    result.full = options.flag("full");
    result.no_resume = options.flag("no-resume");
    result.adopt_node = options.flag("adopt-node");
    result.force_blocking = options.flag("no-io-uring");
    result.workers = options.count("workers", 1, kMaximumWorkers, 0);
    result.state_directory = options.text("state-dir", result.state_directory);
    result.backend.workers = result.workers;
    result.scratch_directory = options.scratch_directory();
    result.lease = lease_options(options, "backup");
    return result;
}

}  // namespace nodesnap::command
