// nodesnap forget: removes backups by a retention policy, or by name.
#include "snapshot/forget.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <sstream>

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/prune_result.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

constexpr unsigned kMost = 1'000'000;
constexpr const char* kRuleOptions[] = {"keep-last",    "keep-hourly", "keep-daily",  "keep-weekly",
                                        "keep-monthly", "keep-yearly", "keep-within", "keep-tag"};

void declare(OptionSet& options) {
    options.value("keep-last", "N", "keep the N newest backups");
    options.value("keep-hourly", "N", "keep the newest backup of each of the N newest hours that have one");
    options.value("keep-daily", "N", "the same for days");
    options.value("keep-weekly", "N", "the same for weeks, which begin on Monday");
    options.value("keep-monthly", "N", "the same for months");
    options.value("keep-yearly", "N", "the same for years");
    options.value("keep-within", "DURATION", "keep all that aren't older than the newest backup by more than this, as in 30d");
    options.list("keep-tag", "TAG[,TAG]...", "keep all with this tag, or with all of these (may be repeated: or with those)");
    options.value("keep-received", "DURATION",
                  "keep all that were received no longer ago than this through a key that may only append (default: 7d; 0: none)");
    options.flag("dry-run", "only tell what would be kept, and why, and what removed; with --prune, also what that would give back");
    options.flag("prune", "then give back the space that no backup needs, as \"nodesnap prune\" does");
    options.flag("allow-mass-expire", "remove more than half of the backups at once if that comes of it");
    options.flag("allow-newest", "with BACKUP: remove the newest good backup if it is named");
    options.flag("cluster-members", "also parts of cluster backups, which `nodesnap cluster forget` removes as a whole");
    declare_prune(options);
    declare_lease(options);
    options.flag("quiet", "print warnings and errors only");
    options.flag("json", "print the result as a JSON document");
}

std::vector<std::vector<std::string>> tag_lists(const Options& options) {
    std::vector<std::vector<std::string>> lists;
    for (const std::string& text : options.list("keep-tag")) {
        std::vector<std::string> tags;
        std::istringstream parts(text + ",");
        for (std::string tag; std::getline(parts, tag, ',');) {
            if (tag.empty()) {
                throw Error::usage("--keep-tag: \"" + printable_name(text) + "\" is not a list of tags", "give it as in a or a,b");
            }
            tags.push_back(tag);
        }
        lists.push_back(std::move(tags));
    }
    return lists;
}

// Rules of the configuration file are for the runs without names.
RetentionRules rules_of(const Options& options, bool named) {
    const auto in_call = [&](const char* name) { return options.given_in_call(name); };
    RetentionRules rules;
    if (named && std::none_of(std::begin(kRuleOptions), std::end(kRuleOptions), in_call)) {
        return rules;
    }
    rules.last = options.count("keep-last", 0, kMost, 0);
    rules.hourly = options.count("keep-hourly", 0, kMost, 0);
    rules.daily = options.count("keep-daily", 0, kMost, 0);
    rules.weekly = options.count("keep-weekly", 0, kMost, 0);
    rules.monthly = options.count("keep-monthly", 0, kMost, 0);
    rules.yearly = options.count("keep-yearly", 0, kMost, 0);
    if (const auto within = options.duration("keep-within"); within && within->count() != 0) {
        rules.within = within;
    }
    rules.tags = tag_lists(options);
    if (const auto received = options.duration("keep-received")) {
        rules.received_within = *received;
    }
    return rules;
}

std::string state_of(const ForgetPlan::Backup& backup) {
    return !backup.facts.readable ? "damaged" : backup.facts.good ? "good" : "incomplete";
}

void print_backup(std::ostream& out, const ForgetPlan::Backup& backup, const RetentionRules& rules) {
    std::string reasons;
    for (const KeepReason& reason : backup.reasons) {
        reasons += (reasons.empty() ? "" : ", ") + describe(reason, rules);
    }
    const std::string object = layout::manifest(backup.name);
    const std::string name = backup.facts.readable ? short_id(backup.facts.id) : object.substr(object.find('/') + 1, 10) + "  ";
    out << (backup.reasons.empty() ? "remove  " : "keep    ") << name << "  " << utc(backup.facts.utc_ns);
    if (backup.facts.readable && !backup.facts.good) {
        out << "  (incomplete)";
    }
    out << (reasons.empty() ? "" : "  ") << printable_text(reasons) << '\n';
}

void print(Call& call, const ForgetPlan& plan, const ForgetOptions& options, bool dry_run) {
    std::ostream& out = call.out();
    for (const ForgetPlan::Backup& backup : plan.backups) {
        call.check_output();
        const bool beside_the_point = !backup.reasons.empty() && backup.reasons.front().rule == KeepRule::kNotNamed;
        if (!beside_the_point) {
            print_backup(out, backup, options.rules);
        }
    }
    if (plan.removed == 0) {
        out << "nothing to remove: " << counted(plan.kept(), "backup", "backups")
            << (dry_run            ? " would stay\n"
                : plan.kept() == 1 ? " stays\n"
                                   : " stay\n");
        return;
    }
    out << (dry_run ? "would remove " : "removed ") << plan.removed << " of " << counted(plan.backups.size(), "backup", "backups") << '\n';
    if (dry_run && plan.is_mass_expiry() && !options.allow_mass_expire) {
        out << "that is more than half" << (plan.removed_of_them != 0 ? ", of all or of what the last run kept" : "")
            << ": it needs --allow-mass-expire\n";
    }
    if (!call.options().flag("prune")) {
        out << "the space that only they take is given back by prune\n";
    }
}

void write(JsonWriter& document, const ForgetPlan& plan, const ForgetOptions& options, bool dry_run) {
    document.member("dry_run", dry_run);
    document.member("kept_count", plan.kept());
    document.member("removed_count", plan.removed);
    document.member("mass_expire", plan.is_mass_expiry());
    document.begin_array("backups");
    for (const ForgetPlan::Backup& backup : plan.backups) {
        document.begin_object();
        if (backup.facts.readable) {
            document.member("id", backup.facts.id.hex());
        }
        document.member("sequence", backup.facts.sequence);
        document.member("object", layout::manifest(backup.name));
        document.member("state", state_of(backup));
        if (backup.facts.readable) {
            document.member("snapshot_time", format_utc_precise(backup.snapshot_ns));
            write_received(document, backup.facts.received ? std::optional(backup.facts.utc_ns) : std::nullopt);
            document.member("pinned", backup.facts.pinned);
        }
        document.member("action", backup.reasons.empty() ? "remove" : "keep");
        document.begin_array("reasons");
        for (const KeepReason& reason : backup.reasons) {
            document.begin_object();
            document.member("rule", to_string(reason.rule));
            document.member("text", describe(reason, options.rules));
            document.end();
        }
        document.end();
        document.end();
    }
    document.end();
}

// Under one lease, so that no backup comes between them.
ForgetResult forget(Call& call, Repository& repository, const ForgetOptions& options, const LeaseOptions& lease_settings,
                    std::optional<PruneResult>& pruned) {
    Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_settings);
    ForgetResult result = run_forget(repository, lease, options, call.report());
    if (call.options().flag("prune")) {
        Progress progress;
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        PruneOptions prune = prune_options(call.options());
        prune.allow_no_backup = options.allow_newest;
        pruned = run_prune(repository, lease, prune, call.report(), progress);
    }
    lease.release();
    return result;
}

// What --prune would do after it.
std::optional<PruneResult> planned_prune(Call& call, const Repository& repository, const ForgetPlan& plan) {
    if (!call.options().flag("prune")) {
        return std::nullopt;
    }
    PruneOptions options = prune_options(call.options());
    for (const ForgetPlan::Backup& backup : plan.backups) {
        if (backup.reasons.empty()) {
            options.without.insert(backup.facts.id);
        }
    }
    Progress progress;
    const ProgressLine line(progress, call.streams().err, call.shows_progress());
    return plan_prune(repository, options, call.report(), progress);
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    ForgetOptions options;
    for (std::string name = call.optional_positional("BACKUP"); !name.empty(); name = call.optional_positional("BACKUP")) {
        options.backups.push_back(name);
    }
    call.end_of_positionals();
    options.rules = rules_of(call.options(), !options.backups.empty());
    options.allow_newest = call.options().flag("allow-newest");
    options.allow_mass_expire = call.options().flag("allow-mass-expire");
    options.cluster_members = call.options().flag("cluster-members");
    prune_options(call.options());  // what is wrong with them is told first
    const bool merges = call.options().flag("merge") && call.options().given_in_call("merge");
    if ((merges || call.options().given_in_call("max-unused")) && !call.options().flag("prune")) {
        throw Error::usage("--merge and --max-unused go with --prune");
    }
    const LeaseOptions lease_settings = lease_options(call, "forget");
    check_request(options);
    const bool dry_run = call.options().flag("dry-run");
    Repository repository = open_repository(call, place);
    std::optional<PruneResult> pruned;
    ForgetResult result;
    if (dry_run) {
        result.plan = plan_forget(repository, options, call.report());
        pruned = planned_prune(call, repository, result.plan);
    } else {
        result = forget(call, repository, options, lease_settings, pruned);
        call.done("what is to be removed is removed");
    }
    for (const ForgetPlan::Backup& backup : result.plan.backups) {
        if (!backup.facts.readable) {
            warn_of_damaged(call.report(), {backup.name, layout::manifest(backup.name), std::nullopt, backup.damage});
        }
    }
    if (call.json()) {
        write(call.document(), result.plan, options, dry_run);
        call.document().member("cleared_sessions", result.cleared_sessions);
        if (pruned) {
            call.document().begin_object("pruned");
            write_prune(call.document(), *pruned);
            call.document().end();
        }
    } else if (!call.options().flag("quiet")) {
        print(call, result.plan, options, dry_run);
        if (pruned) {
            call.out() << prune_text(*pruned, dry_run);
        }
    }
    return result.plan.unreadable != 0 ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace

const Command kForget = {
    "forget",
    "remove backups, by rules or by name",
    "nodesnap forget REPOSITORY --keep-RULE N... [OPTION]...\n"
    "nodesnap forget REPOSITORY BACKUP... [OPTION]...\n",
    "Removes the backups that no rule keeps, or those that are named (ids, unique beginnings of them, or \"latest\"). The others stay\n"
    "whole: none rests on another. The space is given back by --prune, or by \"nodesnap prune\" later.\n"
    "Rules are counted from the newest backup back, in the order in which the backups were made: a clock that was wrong doesn't\n"
    "change it. Hours, days, weeks, months and years are cut in UTC, so that the same comes out on every host, also on the days\n"
    "when the local time jumps. A period without a backup isn't counted. A backup stays if any rule keeps it.\n"
    "Incomplete backups take no place from good ones; they go when a rule wouldn't keep a good one in their place. Never removed:\n"
    "the newest good backup (but by name, with --allow-newest), pinned ones (see \"nodesnap pin\"), one whose manifest can't be\n"
    "read, and one that the next backup must clear up after first.\n"
    "What came by way of \"nodesnap serve --append-only\" goes by when it came, not by what its node says: of each period the first "
    "backup\n"
    "is kept too, what came within --keep-received stays, and more than half of what the last run kept doesn't go without\n"
    "--allow-mass-expire. What was received before a key was stolen isn't pushed out by rules that count periods; by --keep-last it can "
    "be. Try it with --dry-run, "
    "which needs no lock.\n",
    "nodesnap forget /backup/node1 --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n"
    "nodesnap forget /backup/node1 --keep-within 30d --keep-tag release --wait-lock 10m\n"
    "nodesnap forget /backup/node1 702a76fa\n",
    "0  done, also if there was nothing to remove\n"
    "1  failed or interrupted; what was removed stays so, the others are whole; run it again\n"
    "2  wrong usage: no rule and no backup is given, say; nothing was touched\n"
    "3  refused, no backup was removed: more than half would go, a named one is pinned or the newest, this isn't a repository ...\n"
    "4  done, with warnings\n"
    "5  done; a backup's manifest is damaged, and was kept\n"
    "6  another holds the repository, or has taken it over\n",
    declare,
    run,
};

}  // namespace nodesnap::command
