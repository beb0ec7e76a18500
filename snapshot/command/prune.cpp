// nodesnap prune: gives back the space that no backup needs any more.
#include "snapshot/prune.h"

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/prune_result.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("dry-run", "tell what would be removed; needs no lock");
    declare_lease(options);
    options.flag("quiet", "no progress line and no summary");
    options.flag("json", "print the result as a JSON document");
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const bool dry_run = call.options().flag("dry-run");
    const LeaseOptions lease_settings = lease_options(call, "prune");
    Repository repository = open_repository(call, place);
    Progress progress;
    PruneResult result;
    if (dry_run) {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = plan_prune(repository, progress);
    } else {
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_settings);
        {
            const ProgressLine line(progress, call.streams().err, call.shows_progress());
            result = run_prune(repository, lease, progress);
        }
        lease.release();
        call.done("what nobody needs is removed");
    }
    if (call.json()) {
        call.document().member("dry_run", dry_run);
        write_prune(call.document(), result);
    } else if (!call.options().flag("quiet")) {
        call.out() << prune_text(result, dry_run);
    }
    return ExitStatus::kDone;
}

std::string packs(std::uint64_t count, std::uint64_t bytes) {
    return counted(count, "pack", "packs") + ", " + human_bytes(bytes);
}

}  // namespace

std::string prune_text(const PruneResult& result, bool dry_run) {
    std::string text = (dry_run ? "would remove " : "removed ") + packs(result.removed_packs, result.removed_bytes) + "\n";
    text += "in use by " + counted(result.backups, "backup", "backups") + ": " + packs(result.kept_packs, result.kept_bytes) + "\n";
    if (result.unfinished_packs != 0) {
        text += "of unfinished backups: " + counted(result.unfinished_packs, "pack", "packs") + "\n";
    }
    if (result.cleared_sessions != 0) {
        text += "cleared the remains of " + counted(result.cleared_sessions, "unfinished backup", "unfinished backups") + "\n";
    }
    return text;
}

void write_prune(JsonWriter& document, const PruneResult& result) {
    document.member("backups", result.backups);
    document.member("removed_packs", result.removed_packs);
    document.member("removed_bytes", result.removed_bytes);
    document.member("kept_packs", result.kept_packs);
    document.member("kept_bytes", result.kept_bytes);
    document.member("unfinished_packs", result.unfinished_packs);
    document.member("cleared_sessions", result.cleared_sessions);
}

const Command kPrune = {
    "prune",
    "give back the space that no backup needs",
    "nodesnap prune REPOSITORY [OPTION]...\n",
    "Removes the packs that no backup refers to any more: what only forgotten backups used, and what a backup that was given up\n"
    "left. A pack stays whole as long as anything in it is in use. Only what is nobody's is removed, so it can be killed at any\n"
    "time. If it can't be told what a backup refers to, since its manifest or a part of its tree is damaged, nothing is removed.\n"
    "\"nodesnap forget --prune\" does both.\n",
    "nodesnap prune /backup/node1 --dry-run\n"
    "nodesnap prune /backup/node1 --wait-lock 1h\n",
    "0  done\n"
    "1  failed or interrupted; run it again to go on\n"
    "2  wrong usage\n"
    "3  refused: a backup of a newer version, or the repository can't be written to\n"
    "4  done, with warnings\n"
    "5  something is damaged, and nothing was removed\n"
    "6  another holds the repository, or has taken it over\n",
    declare,
    run,
};

}  // namespace nodesnap::command
