// nodesnap prune: gives back the space that no backup needs any more.
#include "snapshot/prune.h"

#include <charconv>
#include <system_error>

#include "io/units.h"
#include "platform/error.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/prune_result.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("dry-run", "tell what would be removed and rewritten; needs no lock");
    options.flag("allow-no-backup", "remove all packs where there is no backup: all were forgotten on purpose");
    declare_prune(options);
    declare_lease(options);
    options.flag("quiet", "no progress line and no summary");
    options.flag("json", "print the result as a JSON document");
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const bool dry_run = call.options().flag("dry-run");
    PruneOptions options = prune_options(call.options());
    options.allow_no_backup = call.options().flag("allow-no-backup");
    const LeaseOptions lease_settings = lease_options(call, "prune");
    Repository repository = open_repository(call, place);
    Progress progress;
    PruneResult result;
    if (dry_run) {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = plan_prune(repository, options, call.report(), progress);
    } else {
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_settings);
        {
            const ProgressLine line(progress, call.streams().err, call.shows_progress());
            result = run_prune(repository, lease, options, call.report(), progress);
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

// And what helps: the space may be there, may have come free since, or isn't to be had from this repository.
std::string why_left(const PruneResult& result) {
    const std::string needed = human_bytes(result.merge_needed_bytes);
    const std::string free = human_bytes(result.merge_free_bytes);
    if (result.merge_needed_bytes <= result.merge_free_bytes) {
        return "to merge them would take too much of the free space, " + needed + " of " + free + " (--merge takes all of it)";
    }
    if (result.merge_needed_bytes <= result.merge_free_bytes + result.removed_bytes + result.rewriting_freed_bytes) {
        return "to merge them takes " + needed + ", and " + free + " were free before anything was removed: prune --merge afterwards";
    }
    return "to merge them takes " + needed + ", and " + free +
           " are free: forget backups that aren't needed, or give the target more space";
}

unsigned percent(const Options& options, const char* name, unsigned otherwise) {
    std::string text = options.text(name, std::to_string(otherwise));
    if (text.ends_with('%')) {
        text.pop_back();
    }
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value > 100) {
        throw Error::usage("--" + std::string(name) + ": \"" + printable_name(options.text(name)) + "\" is not a part of a hundred",
                           "give it as in 25%");
    }
    return value;
}

}  // namespace

void declare_prune(OptionSet& options) {
    options.value("max-unused", "PERCENT",
                  "rewrite a pack without what no backup uses when that is more than this part of it (default: 50%; 100%: never)");
    options.flag("merge",
                 "first write those parts of the newest backup's files anew that lie in many small pieces (default: if a quarter of the "
                 "free space is enough; --merge=no: never)");
    options.value("limit", "RATE", "of data, read and write at most so many bytes a second together, as in 200M (default: no limit)");
    options.value("scratch-dir", "DIR", "for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
}

PruneOptions prune_options(const Options& options) {
    PruneOptions result;
    result.max_unused_percent = percent(options, "max-unused", PruneOptions::kMaxUnusedPercent);
    if (const auto merge = options.flag_if_given("merge")) {
        result.merge = *merge ? MergeWhen::kAlways : MergeWhen::kNever;
    }
    result.limit_bytes_per_second = options.rate("limit");
    result.scratch_directory = options.scratch_directory();
    return result;
}

std::string prune_text(const PruneResult& result, bool dry_run) {
    std::string text;
    if (result.merged_files != 0) {
        text += (dry_run ? "would merge fragments of " : "merged fragments of ") + counted(result.merged_files, "file", "files") + ", " +
                human_bytes(result.merged_bytes) + "\n";
    }
    if (result.left_fragmented_bytes != 0) {
        text += "left " + human_bytes(result.left_fragmented_bytes) + " in small pieces, which restore slowly: " + why_left(result) + "\n";
    }
    text += (dry_run ? "would remove " : "removed ") + packs(result.removed_packs, result.removed_bytes) + "\n";
    if (result.rewritten_packs != 0 || result.rewriting_freed_bytes != 0) {
        text += (dry_run ? "would rewrite " : "rewrote ") + packs(result.rewritten_packs, result.rewritten_bytes) +
                " of what is in use, which " + (dry_run ? "would free " : "freed ") + human_bytes(result.rewriting_freed_bytes) + "\n";
    }
    text += "in use by " + counted(result.backups, "backup", "backups") + ": " + packs(result.kept_packs, result.kept_bytes);
    text += result.unused_bytes == 0 ? "\n" : ", of which " + human_bytes(result.unused_bytes) + " unused\n";
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
    document.member("merged_files", result.merged_files);
    document.member("merged_bytes", result.merged_bytes);
    document.member("left_fragmented_bytes", result.left_fragmented_bytes);
    document.member("merge_free_bytes", result.merge_free_bytes);
    document.member("merge_needed_bytes", result.merge_needed_bytes);
    document.member("removed_packs", result.removed_packs);
    document.member("removed_bytes", result.removed_bytes);
    document.member("rewritten_packs", result.rewritten_packs);
    document.member("rewritten_bytes", result.rewritten_bytes);
    document.member("rewriting_freed_bytes", result.rewriting_freed_bytes);
    document.member("left_damaged_packs", result.left_damaged_packs);
    document.member("left_packs_for_space", result.left_packs_for_space);
    document.member("kept_packs", result.kept_packs);
    document.member("kept_bytes", result.kept_bytes);
    document.member("unused_bytes", result.unused_bytes);
    document.member("unfinished_packs", result.unfinished_packs);
    document.member("cleared_sessions", result.cleared_sessions);
}

const Command kPrune = {
    "prune",
    "give back the space that no backup needs",
    "nodesnap prune REPOSITORY [OPTION]...\n",
    "Removes the packs that no backup refers to any more: what only forgotten backups used, and what a backup that was given up\n"
    "left. Then rewrites the packs of which more than --max-unused isn't in use, without that: the new pack is durable, and read\n"
    "back, before the old one goes, so it can be killed at any time. A pack that has lost a block or a copy is left as it is, with a\n"
    "warning: \"nodesnap repair\" comes first; so is one for which there is no space. If it can't be told what a backup refers to,\n"
    "since its manifest or a part of its tree is damaged, nothing is removed. \"nodesnap forget --prune\" does both.\n"
    "Large files that are updated in place come to lie in very many small pieces, which restore slowly. Such parts of the newest\n"
    "backup are merged first, if a quarter of the target's free space is enough for that: they are stored once more, in one piece\n"
    "each; earlier backups keep theirs until they are forgotten. --merge takes what space there is, --merge=no none.\n",
    "nodesnap prune /backup/node1 --dry-run\n"
    "nodesnap prune /backup/node1 --limit 100M --wait-lock 1h\n",
    "0  done\n"
    "1  failed or interrupted; run it again to go on\n"
    "2  wrong usage\n"
    "3  refused: a backup of a newer version, no backup at all (--allow-no-backup), or the repository can't be written to\n"
    "4  done, with warnings\n"
    "5  something is damaged, and nothing was removed\n"
    "6  another holds the repository, or has taken it over\n",
    declare,
    run,
};

}  // namespace nodesnap::command
