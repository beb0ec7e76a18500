// nodesnap cluster forget: removes cluster backups, by rules or by name, in all nodes' repositories.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "io/human_time.h"
#include "io/units.h"
#include "snapshot/command/cluster.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/retention.h"

namespace nodesnap::command {
namespace {

using cluster::CutState;
using cluster::Members;
using cluster::Stage;

constexpr unsigned kMost = 1'000'000;

RetentionRules rules_of(const Options& options) {
    RetentionRules rules;
    rules.last = options.count("keep-last", 0, kMost, 0);
    rules.daily = options.count("keep-daily", 0, kMost, 0);
    rules.weekly = options.count("keep-weekly", 0, kMost, 0);
    rules.monthly = options.count("keep-monthly", 0, kMost, 0);
    rules.yearly = options.count("keep-yearly", 0, kMost, 0);
    if (const auto within = options.duration("keep-within"); within && within->count() != 0) {
        rules.within = within;
    }
    return rules;
}

// What the rules are applied to knows ids of backups: that of a cut is cut short.
SessionId short_id_of(const CutId& cut) {
    SessionId id;
    std::memcpy(id.bytes.data(), cut.bytes.data(), id.bytes.size());
    return id;
}

// Which of them go. What is unfinished, or can't be judged now, stays.
std::vector<const CutState*> expired(const std::vector<CutState>& cuts, const RetentionRules& rules, std::size_t& judged_count) {
    std::vector<RetentionBackup> facts;
    std::vector<const CutState*> judged;
    for (const CutState& cut : cuts) {
        if (cut.forgotten || cut.kind == CutState::Kind::kUnfinished || cut.kind == CutState::Kind::kUnknown) {
            continue;
        }
        RetentionBackup backup;
        backup.id = short_id_of(cut.proposal.id);
        backup.sequence = static_cast<std::uint64_t>(std::max<std::int64_t>(cut.proposal.created_ns, 0));
        backup.utc_ns = cut.proposal.created_ns;
        backup.good = cut.kind == CutState::Kind::kComplete;
        facts.push_back(backup);
        judged.push_back(&cut);
    }
    judged_count = judged.size();
    const auto reasons = apply_retention(rules, facts, utc_now());
    std::vector<const CutState*> gone;
    for (std::size_t i = 0; i < judged.size(); ++i) {
        if (reasons[i].empty()) {
            gone.push_back(judged[i]);
        }
    }
    return gone;
}

std::vector<const CutState*> named(Call& call, const std::vector<CutState>& cuts, const std::vector<std::string>& names) {
    const CutState* newest = nullptr;
    for (const CutState& cut : cuts) {
        newest = cut.kind == CutState::Kind::kComplete && !cut.forgotten ? &cut : newest;
    }
    std::vector<const CutState*> gone;
    for (const std::string& name : names) {
        const CutState& cut = find_cut(cuts, name);
        if (&cut == newest && !call.options().flag("allow-newest")) {
            throw Error::refused("cluster backup " + cut.proposal.id.text() + " is the newest complete one",
                                 "make a new one first; if it must go now, give --allow-newest");
        }
        gone.push_back(&cut);
    }
    return gone;
}

// The parts of each node, by its place in the file.
std::map<std::size_t, std::vector<std::string>> parts_of(const Members& members, const std::vector<const CutState*>& gone) {
    std::map<std::size_t, std::vector<std::string>> parts;
    for (const CutState* cut : gone) {
        for (const CutState::Node& node : cut->nodes) {
            for (std::size_t index = 0; index < members.size(); ++index) {
                if (members[index].address.name == node.name && node.part) {
                    parts[index].push_back(node.part->id.hex());
                }
            }
        }
    }
    return parts;
}

}  // namespace

ExitStatus cluster_forget(Call& call, ClusterCall& cluster) {
    std::vector<std::string> names;
    for (std::string name = call.optional_positional("ID"); !name.empty(); name = call.optional_positional("ID")) {
        names.push_back(name);
    }
    const RetentionRules rules = rules_of(call.options());
    if (names.empty() == rules.empty()) {
        throw Error::usage(
            names.empty() ? "neither a rule nor a cluster backup is given" : "cluster backups are removed by name or by rules, not by both",
            "give at least one --keep-... option, or name those to remove");
    }
    Members& members = *cluster.members;
    const auto facts = inspect_all(call, cluster);
    for (const auto& node : facts) {
        if (!node.unreachable.empty()) {
            throw Error::failed("node " + node.name + " can't be asked, so nothing is removed: " + node.unreachable);
        }
    }
    const auto cuts = cut_states(facts);
    std::size_t judged = 0;
    const auto gone = names.empty() ? expired(cuts, rules, judged) : named(call, cuts, names);
    if (names.empty() && is_mass_expiry(gone.size(), judged) && !call.options().flag("allow-mass-expire")) {
        throw Error::refused(
            "this would remove " + std::to_string(gone.size()) + " of " + std::to_string(judged) + " cluster backups, more than half",
            "--dry-run shows which; if it is meant, give --allow-mass-expire");
    }
    const bool dry_run = call.options().flag("dry-run");
    for (const CutState* cut : gone) {
        if (!call.json()) {
            call.out() << (dry_run ? "would remove " : "remove ") << cut->proposal.id.text() << "  " << human_time(cut->proposal.created_ns)
                       << "  " << text_of(cut->kind) << '\n';
        }
    }
    if (dry_run || gone.empty()) {
        if (gone.empty() && !call.json()) {
            call.out() << "nothing to remove\n";
        }
        return ExitStatus::kDone;
    }
    // The mark first, everywhere: a cut of which a part is gone must not be taken for one that lost it.
    std::vector<std::size_t> all;
    for (std::size_t index = 0; index < members.size(); ++index) {
        all.push_back(index);
    }
    for (const CutState* cut : gone) {
        if (mark_on(call, members, all, cut->proposal.id, CutMark::kForgotten, "forgotten by the operator's rules or word") != all.size()) {
            throw Error::failed("the cluster backup " + cut->proposal.id.text() + " isn't marked as forgotten everywhere; its parts stay",
                                "run it again when all nodes' repositories can be written to");
        }
    }
    std::vector<std::pair<std::size_t, std::vector<std::string>>> commands;
    for (const auto& [index, ids] : parts_of(members, gone)) {
        std::vector<std::string> positionals{members[index].address.repository};
        positionals.insert(positionals.end(), ids.begin(), ids.end());
        std::vector<std::string> options{"--quiet", "--wait-lock=10m"};
        for (const char* name : {"prune", "allow-newest"}) {
            if (call.options().flag(name)) {
                options.push_back("--" + std::string(name));
            }
        }
        commands.emplace_back(index, ClusterCall::access_words(cluster.file.nodes[index], "forget", options, positionals));
    }
    run_on(members, commands, call.options().count("parallel", 1, 1024, 4));
    bool failed = false;
    for (const auto& [index, words] : commands) {
        const auto& member = members[index];
        const std::int64_t status = member.stage == Stage::kDone ? cluster::number_of(member.result, "status") : 1;
        if (status != 0) {
            failed = failed || status != static_cast<int>(ExitStatus::kWarnings);
            call.report().warn("node " + member.address.name + ": " +
                               (member.stage == Stage::kDone ? member.output : member.error->message()));
        }
    }
    call.done("the cluster backups are marked as forgotten");
    if (failed) {
        throw Error::failed("not all parts are removed",
                            "they are kept for no cluster any more: `nodesnap forget` on the node removes them");
    }
    return ExitStatus::kDone;
}

}  // namespace nodesnap::command
