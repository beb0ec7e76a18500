// nodesnap show: what one backup holds.
#include <cstdio>
#include <optional>

#include "io/units.h"
#include "snapshot/command/change_listing.h"
#include "snapshot/command/file_listing.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/tree_path.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("files", "list all files at and below PATH, or of the whole backup");
    options.flag("changes", "tell what changed since the backup that it is built on, by file and bytes, as diff does");
    options.flag("summary", "with --changes: only the totals");
    options.value("scratch-dir", "DIR", "with --changes: for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
    declare_as_of(options);
    options.flag("json", "print a JSON document");
}

constexpr const char* kCompareOthers = "\"nodesnap diff\" compares it with any other, \"nodesnap list\" tells which there are";

std::string milliseconds(std::int64_t nanoseconds) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f ms", static_cast<double>(nanoseconds) / 1e6);
    return text;
}

void print_backup(Call& call, const Manifest& manifest) {
    std::ostream& out = call.out();
    const Manifest::Totals& totals = manifest.totals;
    out << "backup:         " << manifest.id.hex() << '\n'
        << "state:          " << state_of(manifest) << '\n'
        << "snapshot taken: " << utc(manifest.snapshot_time_ns) << " UTC, in " << milliseconds(manifest.snapshot_duration_ns) << '\n'
        << (manifest.held_ns != 0 ? "daemon held:    for " + milliseconds(manifest.held_ns) + "\n" : "")
        << "finished:       " << utc(manifest.finished_time_ns) << " UTC\n"
        << "consistency:    " << to_string(manifest.consistency) << '\n'
        << (manifest.engine_version.empty() ? "" : "engine:         " + printable_text(manifest.engine_version) + "\n")
        << (manifest.profile.empty() ? "" : "profile:        " + printable_text(manifest.profile) + "\n")
        << (manifest.cut
                ? "part of:        cluster backup " + manifest.cut->cut.text() + " of " + printable_name(manifest.cut->cluster) + "\n"
                : "")
        << "node:           " << printable_name(manifest.node.name) << '\n'
        << "node directory: " << printable_name(manifest.node.path) << " on " << printable_name(manifest.host_name) << '\n'
        << "backend:        " << printable_text(manifest.proof.backend) << '\n'
        << "holds:          " << counts_of(totals.files, totals.directories, totals.others) << '\n'
        << "size:           " << human_bytes(totals.logical_bytes) << " (" << human_bytes(totals.data_bytes) << " without holes)\n"
        << "read:           " << human_bytes(totals.read_bytes) << '\n'
        << "stored:         " << human_bytes(totals.stored_bytes) << " in " << manifest.packs.size() << " packs\n";
    if (manifest.parent) {
        out << "built on:       backup " << manifest.parent->hex() << ": " << human_bytes(totals.referenced_bytes) << " are referred to\n";
    }
    if (totals.unreadable_files != 0) {
        out << "unreadable:     " << totals.unreadable_files << " files\n";
    }
    for (const std::string& tag : manifest.tags) {
        out << "tag:            " << printable_name(tag) << '\n';
    }
    if (manifest.pinned && manifest.pins.empty()) {
        out << "pinned:         yes\n";
    }
    for (const std::string& reason : manifest.pins) {
        out << "pinned:         " << printable_text(reason) << '\n';
    }
    for (const CapturedFile& file : manifest.captured) {
        out << "captured:       " << printable_name(file.path) << ", " << human_bytes(file.content.size()) << '\n';
    }
    for (const std::string& pattern : manifest.excludes) {
        out << "excluded:       " << printable_name(pattern) << '\n';
    }
    if (!manifest.proof.path.empty()) {
        out << "snapshot kept:  " << printable_name(manifest.proof.path) << '\n';
    }
    out << "made by:        nodesnap " << printable_text(manifest.tool_version) << '\n';
}

std::string joined(const std::string& directory, const std::string& name) {
    return directory.empty() || name.empty() ? directory + name : directory + "/" + name;
}

class FileShower {
public:
    FileShower(Call& call, Repository& repository, const Manifest& manifest)
        : call_(call), repository_(repository), manifest_(manifest), owners_(repository, manifest) {}

    void tree(const std::string& start, std::uint64_t ino, const Inode& inode) {
        if (inode.type != FileType::kDirectory) {
            file(start, ino, inode);
            return;
        }
        TreeWalker walker(repository_, manifest_, ino);
        TreeStep step;
        while (walker.next(step)) {
            if (step.kind != TreeStep::Kind::kLeave) {
                entry(joined(start, walker.path()), step.entry.ino);
            }
        }
    }

    void directory(const std::string& path, std::uint64_t ino) {
        DirectoryLister lister(repository_, manifest_, ino);
        NamedEntry found;
        while (lister.next(found)) {
            entry(joined(path, found.name), found.ino);
        }
    }

    void file(const std::string& path, std::uint64_t ino, const Inode& inode) {
        call_.check_output();
        const std::string shown = path.empty() ? "." : path;
        if (call_.json()) {
            call_.document().begin_object();
            write_file(call_.document(), shown, ino, inode, owners_);
            call_.document().end();
        } else {
            call_.out() << file_line(shown, inode, owners_) << '\n';
        }
    }

private:
    void entry(const std::string& path, std::uint64_t ino) { file(path, ino, load_inode(repository_, manifest_, ino)); }

    Call& call_;
    Repository& repository_;
    const Manifest& manifest_;
    OwnerNames owners_;
};

void show_files(Call& call, Repository& repository, const Manifest& manifest, const std::string& path) {
    const auto found = find_path(repository, manifest, path);
    if (!found) {
        throw Error::refused("backup " + short_id(manifest.id) + " holds no \"" + printable_name(path) + "\"",
                             call.options().given("as-of")
                                 ? "--as-of stands in place of BACKUP: what follows REPOSITORY is a path, relative to the node directory"
                                 : "paths are relative to the node directory; \"nodesnap find\" tells which backups hold one");
    }
    FileShower shower(call, repository, manifest);
    if (call.options().flag("files")) {
        shower.tree(normalized_path(path), found->first, found->second);
    } else if (found->second.type == FileType::kDirectory) {
        shower.directory(normalized_path(path), found->first);
    } else {
        shower.file(normalized_path(path), found->first, found->second);
    }
}

// The backup that it is built on.
Manifest parent_of(const Repository& repository, const Manifest& manifest) {
    const std::string shown = "backup " + short_id(manifest.id);
    if (!manifest.parent) {
        throw Error::refused(shown + " is built on no other: all that is in it was stored by itself", kCompareOthers);
    }
    std::optional<Manifest> parent;
    std::string unreadable;
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        if (!entry.manifest) {
            unreadable = entry.object;
        } else if (entry.manifest->id == *manifest.parent) {
            parent = *entry.manifest;
        }
        return !parent;
    });
    if (!parent) {
        throw Error::refused("what changed in " + shown + " can't be told: backup " + short_id(*manifest.parent) +
                                 ", which it is built on, was forgotten" +
                                 (unreadable.empty() ? "" : ", or is the one that can't be read: " + unreadable),
                             kCompareOthers);
    }
    parent->packs = {};  // may be many, and aren't needed
    return std::move(*parent);
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    const BackupChoice choice(call);
    const std::string path = call.optional_positional("PATH");
    call.end_of_positionals();
    const bool changes = call.options().flag("changes");
    if (changes && (call.options().flag("files") || !path.empty())) {
        throw Error::usage("--changes is about the whole backup: it goes without PATH and --files");
    }
    if (!changes && (call.options().flag("summary") || call.options().given_in_call("scratch-dir"))) {
        throw Error::usage("--summary and --scratch-dir are options of --changes");
    }
    DiffOptions diff;
    diff.scratch_directory = call.options().scratch_directory();
    Repository repository = open_repository(call, place);
    const Manifest manifest = choice.find(repository);
    const std::optional<Manifest> parent = changes ? std::optional(parent_of(repository, manifest)) : std::nullopt;
    const bool files = call.options().flag("files") || !path.empty();
    if (call.json()) {
        JsonWriter& document = call.document();
        document.begin_object("backup");
        write_backup(document, manifest);
        document.end();
        if (files) {
            document.begin_array("files");
        }
    }
    if (files) {
        show_files(call, repository, manifest, path);
    } else if (!call.json()) {
        print_backup(call, manifest);
    }
    return parent ? tell_changes(call, repository, *parent, manifest, diff, !call.options().flag("summary")) : ExitStatus::kDone;
}

}  // namespace

const Command kShow = {
    "show",
    "show one backup, or files in it",
    "nodesnap show REPOSITORY BACKUP [PATH] [OPTION]...\n"
    "nodesnap show REPOSITORY --as-of TIME [PATH] [OPTION]...\n",
    "Without PATH, tells what is known of the backup; with --changes also what changed since the one that it is built on (\"nodesnap help\n"
    "diff\" tells how to read that). With PATH, shows that file, or what is in that directory; with --files,\n"
    "everything below it. PATH is relative to the node directory; \".\" is the node directory itself. Times are UTC. In names,\n"
    "bytes that a terminal should not get are written as \\xNN, and a backslash as \\\\. Needs no lock and no write access.\n",
    "nodesnap show /backup/node1 latest\n"
    "nodesnap show /backup/node1 latest --changes\n"
    "nodesnap show /backup/node1 latest data\n"
    "nodesnap show /backup/node1 --as-of \"2024-05-31 14:30\" --files\n",
    "",
    declare,
    run,
};

}  // namespace nodesnap::command
