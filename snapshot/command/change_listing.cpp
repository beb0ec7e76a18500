#include "snapshot/command/change_listing.h"

#include "io/units.h"
#include "snapshot/command/file_listing.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

std::vector<const char*> names_of(std::uint32_t attributes) {
    static constexpr std::pair<InodeAttribute, const char*> kNames[] = {
        {kModeAttribute, "mode"},   {kOwnerAttribute, "owner"},           {kTimesAttribute, "times"}, {kXattrsAttribute, "xattrs"},
        {kFlagsAttribute, "flags"}, {kAllocationAttribute, "allocation"}, {kLinksAttribute, "links"},
    };
    std::vector<const char*> names;
    for (const auto& [attribute, name] : kNames) {
        if ((attributes & attribute) != 0) {
            names.push_back(name);
        }
    }
    return names;
}

const char* word_of(PathChange::Kind kind) {
    switch (kind) {
        case PathChange::Kind::kAdded:
            return "added";
        case PathChange::Kind::kRemoved:
            return "removed";
        case PathChange::Kind::kContent:
            return "content";
        case PathChange::Kind::kAttributes:
            return "attributes";
        case PathChange::Kind::kRenamed:
            return "renamed";
    }
    return "unknown";
}

char letter_of(PathChange::Kind kind) {
    switch (kind) {
        case PathChange::Kind::kAdded:
            return '+';
        case PathChange::Kind::kRemoved:
            return '-';
        case PathChange::Kind::kContent:
            return 'M';
        case PathChange::Kind::kAttributes:
            return 'a';
        case PathChange::Kind::kRenamed:
            return 'R';
    }
    return '?';
}

std::string shown(const std::string& path, const Inode& inode) {
    return (path.empty() ? "." : printable_name(path)) + (inode.type == FileType::kDirectory && !path.empty() ? "/" : "");
}

// What of a pair of files differs: "4.0 KiB of 1.0 GiB, mode".
std::vector<std::string> details_of(const PathChange& change) {
    std::vector<std::string> details;
    const Inode& before = change.files.before;
    const Inode& after = change.files.after;
    if (change.change.content.changed && after.type == FileType::kRegular) {
        details.push_back(human_bytes(change.change.content.bytes) + " of " + human_bytes(after.size));
        if (before.size != after.size) {
            details.push_back("was " + human_bytes(before.size));
        }
    }
    if (change.replaced) {
        details.emplace_back("replaced");
    }
    for (const char* name : names_of(change.change.attributes)) {
        details.emplace_back(name);
    }
    return details;
}

std::string line_of(const PathChange& change) {
    std::string line = std::string(1, letter_of(change.kind)) + "  ";
    if (change.kind == PathChange::Kind::kRenamed) {
        line += shown(change.old_path, change.files.before) + " -> ";
    }
    line += shown(change.path, change.inode());
    std::vector<std::string> details;
    if (!change.damage.empty()) {
        details.emplace_back("can't be compared");
    } else if (change.kind != PathChange::Kind::kAdded && change.kind != PathChange::Kind::kRemoved) {
        details = details_of(change);
    } else if (change.hard_link) {
        details.emplace_back("hard link");
    } else if (change.inode().type == FileType::kRegular) {
        details.push_back(human_bytes(change.inode().size));
    }
    const char* separator = "  ";
    for (const std::string& detail : details) {
        line += separator + detail;
        separator = ", ";
    }
    return line;
}

std::string summary_of(const DiffTotals& totals) {
    if (!totals.any()) {
        return "no differences";
    }
    const auto with_bytes = [](std::uint64_t count, const char* what, std::uint64_t bytes) {
        return std::to_string(count) + what + (count == 0 ? "" : " (" + human_bytes(bytes) + ")");
    };
    return with_bytes(totals.added, " added", totals.added_bytes) + ", " + with_bytes(totals.removed, " removed", totals.removed_bytes) +
           ", " + std::to_string(totals.content) + " changed, " + std::to_string(totals.renamed) + " renamed, " +
           std::to_string(totals.attributes) + " with other attributes only" +
           (totals.changed_bytes == 0 ? "" : "; " + human_bytes(totals.changed_bytes) + " changed in files");
}

class Printer {
public:
    Printer(Call& call, const Repository& repository, const Manifest& before, const Manifest& after, bool lines)
        : call_(call),
          lines_(lines),
          before_(before),
          after_(after),
          owners_before_(repository, before),
          owners_after_(repository, after) {}

    void begin() {
        if (!call_.json()) {
            return;
        }
        JsonWriter& document = call_.document();
        document.begin_object("before");
        write_backup(document, before_);
        document.end();
        document.begin_object("after");
        write_backup(document, after_);
        document.end();
        if (lines_) {
            document.begin_array("changes");
        }
    }

    void change(const PathChange& change) {
        call_.check_output();
        if (!change.damage.empty()) {
            call_.report().warn("\"" + printable_name(change.path) + "\" can't be compared: " + change.damage);
        }
        if (!lines_) {
            return;
        }
        if (call_.json()) {
            write(change);
        } else {
            call_.out() << line_of(change) << '\n';
        }
    }

    void end(const DiffTotals& totals) {
        if (call_.json()) {
            if (lines_) {
                call_.document().end();
            }
            write(totals);
            return;
        }
        if (totals.by_path) {
            call_.out() << "(of different file systems: compared by path, renames aren't told)\n";
        }
        call_.out() << moment(before_) << " to " << moment(after_) << ": " << summary_of(totals) << '\n';
    }

private:
    static std::string moment(const Manifest& manifest) { return short_id(manifest.id) + " (" + utc(manifest.snapshot_time_ns) + " UTC)"; }

    void write(const PathChange& change) {
        JsonWriter& document = call_.document();
        document.begin_object();
        document.member("change", word_of(change.kind));
        document.name("path", change.path.empty() ? "." : change.path);
        if (change.kind == PathChange::Kind::kRenamed) {
            document.name("old_path", change.old_path);
        }
        if (change.kind == PathChange::Kind::kAdded || change.kind == PathChange::Kind::kRemoved) {
            document.member("hard_link", change.hard_link);
        } else if (!change.damage.empty()) {
            document.member("damage", change.damage);
        } else {
            write_differences(document, change);
        }
        if (change.kind != PathChange::Kind::kAdded) {
            const std::string& path = change.kind == PathChange::Kind::kRenamed ? change.old_path : change.path;
            write_side(document, "before", path, change.files.ino_before, change.files.before, owners_before_);
        }
        if (change.kind != PathChange::Kind::kRemoved) {
            write_side(document, "after", change.path, change.files.ino_after, change.files.after, owners_after_);
        }
        document.end();
    }

    static void write_differences(JsonWriter& document, const PathChange& change) {
        document.member("content_changed", change.change.content.changed);
        document.member("changed_bytes", change.change.content.bytes);
        document.member("replaced", change.replaced);
        document.begin_array("attributes");
        for (const char* name : names_of(change.change.attributes)) {
            document.element(name);
        }
        document.end();
    }

    static void write_side(JsonWriter& document, const char* side, const std::string& path, std::uint64_t ino, const Inode& inode,
                           const OwnerNames& owners) {
        document.begin_object(side);
        write_file(document, path.empty() ? "." : path, ino, inode, owners);
        document.end();
    }

    void write(const DiffTotals& totals) {
        JsonWriter& document = call_.document();
        document.begin_object("summary");
        document.member("matched_by", totals.by_path ? "path" : "inode");
        document.member("added", totals.added);
        document.member("removed", totals.removed);
        document.member("content", totals.content);
        document.member("attributes", totals.attributes);
        document.member("renamed", totals.renamed);
        document.member("added_bytes", totals.added_bytes);
        document.member("removed_bytes", totals.removed_bytes);
        document.member("changed_bytes", totals.changed_bytes);
        document.member("not_compared", totals.damaged);
        document.end();
    }

    Call& call_;
    const bool lines_;
    const Manifest& before_;
    const Manifest& after_;
    OwnerNames owners_before_, owners_after_;
};

}  // namespace

ExitStatus tell_changes(Call& call, const Repository& repository, const Manifest& before, const Manifest& after, const DiffOptions& options,
                        bool lines) {
    Printer printer(call, repository, before, after, lines);
    printer.begin();
    const DiffTotals totals = run_diff(repository, before, after, options, [&](const PathChange& change) { printer.change(change); });
    printer.end(totals);
    return totals.damaged != 0 ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace nodesnap::command
