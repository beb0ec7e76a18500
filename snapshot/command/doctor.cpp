// nodesnap doctor: what a node's storage offers, what would be chosen and why, what is in the way, and how fast it is.
#include "snapshot/doctor.h"

#include <algorithm>

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/profile.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

using Severity = Finding::Severity;

void declare(OptionSet& options) {
    options.value("snapshot", "KIND", "as for `backup`: what this kind needs is looked for (default: auto)");
    options.value("snapshot-dir", "DIR", "as for `backup`: where the snapshot would be made");
    declare_profile(options);
    options.list("immutable", "PATTERN", "as for `backup`: files that are never written to again once they are closed (may be repeated)");
    options.list("exclude", "PATTERN", "as for `backup`: what would be left out (may be repeated)");
    options.flag("no-measure", "don't measure how fast the node is read and the repository is written, which takes some seconds");
    options.value("scratch-dir", "DIR", "for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
    options.flag("json", "print a JSON document");
}

const char* name_of(Severity severity) {
    switch (severity) {
        case Severity::kFact:
            return "fact";
        case Severity::kWarning:
            return "warning";
        case Severity::kObstacle:
            return "obstacle";
    }
    return "unknown";
}

void print_finding(std::ostream& out, const Finding& finding) {
    out << name_of(finding.severity) << ": " << finding.topic << ": " << printable_text(finding.text) << '\n';
    if (!finding.remedy.empty()) {
        out << "  what to do: " << printable_text(finding.remedy) << '\n';
    }
}

void print(std::ostream& out, const Diagnosis& diagnosis) {
    constexpr std::size_t kColumn = 15;
    out << "node directory: " << printable_name(diagnosis.node_directory) << '\n';
    const auto line = [&](const std::string& topic, const std::string& text) {
        out << "  " << topic << ':' << std::string(kColumn - std::min(kColumn - 1, topic.size()), ' ') << printable_text(text) << '\n';
    };
    line("contents", counts_of(diagnosis.files, diagnosis.directories, diagnosis.others) + ", " + human_bytes(diagnosis.bytes));
    for (const Finding& finding : diagnosis.findings) {
        if (finding.severity == Severity::kFact) {
            line(finding.topic, finding.text);
        }
    }
    for (const Severity severity : {Severity::kObstacle, Severity::kWarning}) {
        for (const Finding& finding : diagnosis.findings) {
            if (finding.severity == severity) {
                print_finding(out, finding);
            }
        }
    }
    if (diagnosis.command.empty()) {
        out << "a backup would be refused\n";
    } else {
        out << "proposed: " << diagnosis.command << '\n';
    }
}

void write_speed(JsonWriter& document, const char* name, const std::optional<MeasuredSpeed>& speed) {
    if (!speed) {
        document.null(name);
        return;
    }
    document.begin_object(name);
    document.member("bytes_per_second", speed->bytes_per_second);
    document.member("random_reads_per_second", speed->random_reads_per_second);
    document.end();
}

void write(JsonWriter& document, const Diagnosis& diagnosis) {
    document.name("node_directory", diagnosis.node_directory);
    document.member("snapshot_backend", diagnosis.chosen);
    document.member("snapshot_backend_reason", diagnosis.reason);
    document.begin_array("snapshot_kinds");
    for (const SnapshotOffer& offer : diagnosis.offers) {
        document.begin_object();
        document.member("kind", offer.kind);
        document.member("available", offer.why_not.empty());
        document.name("why_not", offer.why_not);
        document.end();
    }
    document.end();
    document.member("files", diagnosis.files);
    document.member("directories", diagnosis.directories);
    document.member("others", diagnosis.others);
    document.member("bytes", diagnosis.bytes);
    write_speed(document, "source", diagnosis.source);
    write_speed(document, "target", diagnosis.target);
    document.begin_array("findings");
    for (const Finding& finding : diagnosis.findings) {
        document.begin_object();
        document.member("severity", name_of(finding.severity));
        document.member("topic", finding.topic);
        document.name("text", finding.text);
        document.name("remedy", finding.remedy);
        document.end();
    }
    document.end();
    document.name("command", diagnosis.command);
}

ExitStatus run(Call& call) {
    DoctorOptions options;
    options.backup.node_directory = call.positional("NODE_DIR");
    options.repository = call.optional_positional("REPOSITORY");
    call.end_of_positionals();
    options.backup.backend.kind = call.options().text("snapshot", "auto");
    options.backup.backend.snapshot_directory = call.options().text("snapshot-dir");
    options.backup.backend.immutable = call.options().list("immutable");
    const ExcludeRules check_immutable(options.backup.backend.immutable);
    options.backup.excludes = call.options().list("exclude");
    options.backup.scratch_directory = call.options().scratch_directory();
    options.measure = !call.options().flag("no-measure");
    std::optional<Repository> repository;
    if (!options.repository.empty()) {
        repository.emplace(open_repository(call, options.repository));
    }
    Progress progress;
    Diagnosis diagnosis;
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        diagnosis = diagnose(options, repository ? &*repository : nullptr, progress, call.report());
    }
    if (call.json()) {
        write(call.document(), diagnosis);
    } else {
        print(call.out(), diagnosis);
    }
    if (diagnosis.has(Severity::kObstacle)) {
        return ExitStatus::kRefused;
    }
    return diagnosis.has(Severity::kWarning) ? ExitStatus::kWarnings : ExitStatus::kDone;
}

}  // namespace

const Command kDoctor = {
    "doctor",
    "tell what a node's storage offers for backups, what is in the way, and how fast it is",
    "nodesnap doctor NODE_DIR [REPOSITORY] [OPTION]...\n",
    "Looks at the node directory's file system and device, at who uses it and how that could be held, at what lies elsewhere, and at each\n"
    "kind of snapshot. Tells which one `backup` would choose and why, what it would refuse, what may be missing from a backup, and what "
    "to\n"
    "do about it. Measures how fast the node's largest files are read, past the page cache, and how fast the repository's disk is "
    "written,\n"
    "by a file without a name. Nothing is changed. Proposes the command of a backup. Needs root to see all.\n",
    "nodesnap doctor /var/lib/qdb\n"
    "nodesnap doctor /var/lib/qdb /backup/node1 --no-measure\n",
    "0  nothing is in the way\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  a backup would be refused\n"
    "4  a backup would be made, but there are warnings\n",
    declare,
    run,
};

}  // namespace nodesnap::command
