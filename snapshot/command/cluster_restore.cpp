// nodesnap cluster restore: all nodes of a cluster backup, or some, after a look at all.
#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <set>

#include "io/human_time.h"
#include "io/units.h"
#include "snapshot/command/cluster.h"
#include "snapshot/command/cluster_table.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

using cluster::CutState;
using cluster::Json;
using cluster::Member;
using cluster::Members;
using cluster::Stage;

// A node that gets something, and from where.
struct Target {
    std::size_t index;       // in the cluster file
    std::string source;      // the node that was backed up
    std::string repository;  // of that one, as the target reaches it
    std::string backup;      // hex
    bool mapped = false;
    bool done = false;  // by an earlier run
    std::string plan;   // what a dry run says of it
};

std::map<std::string, std::string> pairs_of(const Options& options, const char* name) {
    std::map<std::string, std::string> pairs;
    for (const std::string& text : options.list(name)) {
        const auto equals = text.find('=');
        if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
            throw Error::usage("--" + std::string(name) + ": \"" + shortened(printable_name(text)) + "\" is not OLD=NEW");
        }
        if (!pairs.emplace(text.substr(0, equals), text.substr(equals + 1)).second) {
            throw Error::usage("--" + std::string(name) + ": " + text.substr(0, equals) + " is given twice", "give it once");
        }
    }
    return pairs;
}

class ClusterRestore {
public:
    ClusterRestore(Call& call, ClusterCall& cluster) : call_(call), cluster_(cluster), members_(*cluster.members) {}

    ExitStatus run() {
        choose_sources();
        choose_backup();
        look_at_places();
        try_all();
        print_plan();
        if (call_.options().flag("dry-run")) {
            return ExitStatus::kDone;
        }
        return restore();
    }

private:
    const ClusterNode& node(std::size_t index) const { return cluster_.file.nodes[index]; }
    std::size_t index_of(const std::string& name, const char* option) const {
        for (std::size_t index = 0; index < members_.size(); ++index) {
            if (node(index).name == name) {
                return index;
            }
        }
        throw Error::usage(std::string(option) + ": the cluster file has no node " + printable_name(name), "it has " + names());
    }
    std::string names() const {
        std::string all;
        for (const ClusterNode& other : cluster_.file.nodes) {
            all += (all.empty() ? "" : ", ") + other.name;
        }
        return all;
    }

    // Which backed-up node each node of the file would get: itself, or as mapped.
    void choose_sources() {
        const auto map = pairs_of(call_.options(), "map");
        const auto repositories = pairs_of(call_.options(), "map-repository");
        std::map<std::size_t, std::string> source;
        std::set<std::string> moved;
        for (const auto& [from, to] : map) {
            const std::size_t index = index_of(to, "--map");
            if (!source.emplace(index, from).second) {
                throw Error::usage("--map: two nodes would become " + printable_name(to), "each becomes another");
            }
            moved.insert(from);
        }
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const std::string& name = node(index).name;
            Target target{index, name, node(index).repository, "", false, false, ""};
            if (const auto mapped = source.find(index); mapped != source.end()) {
                target.source = mapped->second;
                target.mapped = target.source != name;
                const auto old = std::find_if(cluster_.file.nodes.begin(), cluster_.file.nodes.end(),
                                              [&](const ClusterNode& other) { return other.name == target.source; });
                target.repository = old != cluster_.file.nodes.end() ? old->repository : "";
            } else if (moved.contains(name)) {
                continue;  // what was backed up of it goes elsewhere
            }
            if (const auto given = repositories.find(target.source); given != repositories.end()) {
                target.repository = given->second;
            }
            if (target.repository.empty()) {
                throw Error::usage(
                    "--map: the repository of " + printable_name(target.source) + ", which the cluster file doesn't have, isn't known",
                    "say where node " + node(index).name + " finds it: --map-repository " + target.source + "=PLACE");
            }
            candidates_.push_back(std::move(target));
        }
    }

    std::vector<std::string> backup_words(const Target& target) const {
        std::vector<std::string> words = members_[target.index].address.words;
        words.back() = target.repository;
        return words;
    }

    void choose_backup() {
        const std::string id = call_.optional_positional("ID");
        call_.end_of_positionals();
        std::vector<Inspection> inspections;
        for (const Target& target : candidates_) {
            inspections.push_back({target.index, backup_words(target), target.source});
        }
        const auto cuts = cut_states(inspect(call_, members_, inspections));
        cut_ = find_cut(cuts, id.empty() ? "latest" : id);
        const std::vector<std::string> wanted = call_.options().list("node");
        for (const std::string& name : wanted) {
            index_of(name, "--node");
        }
        if (wanted.empty()) {
            require_all_have_a_place();
        }
        require_good(!wanted.empty());
        for (Target& target : candidates_) {
            const auto stored = std::find_if(cut_.nodes.begin(), cut_.nodes.end(),
                                             [&](const CutState::Node& other) { return other.name == target.source; });
            const bool named = wanted.empty() || std::find(wanted.begin(), wanted.end(), node(target.index).name) != wanted.end();
            if (stored != cut_.nodes.end() && stored->part) {
                if (named) {
                    target.backup = stored->part->id.hex();
                    targets_.push_back(target);
                }
            } else if (named && !wanted.empty()) {
                throw Error::refused("cluster backup " + cut_.proposal.id.text() + " has nothing of node " + target.source,
                                     "`nodesnap cluster show` tells of each node");
            }
        }
        if (targets_.empty()) {
            throw Error::refused("there is nothing to restore to the nodes that are named");
        }
        warn_of_versions();
    }

    // The cluster is at least as large as the one that was backed up, and each node of that becomes one.
    void require_all_have_a_place() const {
        std::size_t parts = 0;
        std::string without;
        for (const CutProposal::Node& proposed : cut_.proposal.nodes) {
            const bool placed =
                std::any_of(candidates_.begin(), candidates_.end(), [&](const Target& target) { return target.source == proposed.name; });
            parts += proposed.id ? 1 : 0;
            without += proposed.id && !placed ? (without.empty() ? "" : ", ") + proposed.name : "";
        }
        if (members_.size() < parts) {
            throw Error::refused("the cluster has " + counted(members_.size(), "node", "nodes") + ", and " + std::to_string(parts) +
                                     " were backed up: it must have at least as many; without a place: " + without,
                                 "add nodes to the cluster file, or name some with --node");
        }
        if (!without.empty()) {
            throw Error::refused("no node of the cluster file is to become what was backed up of " + without,
                                 "say which: --map " + without.substr(0, without.find(',')) + "=NEW");
        }
    }

    void require_good(bool some) const {
        // Some may be had while others can't be asked.
        const bool enough = cut_.kind == CutState::Kind::kComplete ||
                            (some && (cut_.kind == CutState::Kind::kUnknown || cut_.kind == CutState::Kind::kUnfinished));
        if (!enough && !call_.options().flag("accept-incomplete")) {
            throw Error::refused("cluster backup " + cut_.proposal.id.text() + " is " + text_of(cut_.kind) + ": " + cut_.why,
                                 "`nodesnap cluster show` tells of each node; --accept-incomplete restores what there is");
        }
    }

    // They were one cluster.
    void warn_of_versions() {
        std::set<std::string> versions;
        for (const CutState::Node& stored : cut_.nodes) {
            if (stored.part && !stored.part->engine_version.empty()) {
                versions.insert(stored.part->engine_version);
            }
        }
        if (versions.size() > 1) {
            call_.report().warn("the nodes that were backed up had different versions: " + *versions.begin() + ", " + *versions.rbegin());
        }
    }

    // Of all nodes of the cluster, also those that get nothing: a daemon that lives there would join what is restored. Not where only some
    // are named: they join a cluster that lives.
    void look_at_places() {
        const bool all = call_.options().list("node").empty();
        std::vector<std::pair<std::size_t, Json>> jobs;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const auto target = std::find_if(targets_.begin(), targets_.end(), [&](const Target& other) { return other.index == index; });
            if (target != targets_.end() || all) {
                jobs.emplace_back(index, place_job(index, target == targets_.end() ? "" : target->backup, "look"));
            }
        }
        do_jobs(members_, jobs);
        std::vector<std::string> flaws;
        for (const auto& [index, job] : jobs) {
            const Member& member = members_[index];
            const std::string name = "node " + member.address.name + ": ";
            if (member.stage != Stage::kDone || member.answers.empty()) {
                flaws.push_back(member.error ? member.error->message() : name + "it doesn't tell how its directory is");
                continue;
            }
            const std::string state = cluster::text_of(member.answers.front(), "state");
            const auto target =
                std::find_if(targets_.begin(), targets_.end(), [&, at = index](const Target& other) { return other.index == at; });
            if (state == "occupied" || (state != "virgin" && target == targets_.end())) {
                flaws.push_back(name + cluster::text_of(member.answers.front(), "why"));
            } else if (target != targets_.end()) {
                // A note is no proof: what is there is compared with the backup.
                begun_.insert(state == "begun" || state == "restored" ? index : members_.size());
            }
        }
        refuse(flaws, "stop all daemons, and move away what is in their directories");
    }

    Json place_job(std::size_t index, const std::string& backup, const char* what) const {
        return {{"do", "job"},      {"job", "place"}, {"words", members_[index].address.words}, {"cut", cut_.proposal.id.text()},
                {"backup", backup}, {"what", what}};
    }

    static void refuse(const std::vector<std::string>& flaws, const char* hint) {
        if (flaws.empty()) {
            return;
        }
        std::string text = "nothing was touched: ";
        for (const std::string& flaw : flaws) {
            text += (&flaw == &flaws.front() ? "" : "; ") + flaw;
        }
        throw Error::refused(text, hint);
    }

    std::vector<std::string> restore_words(const Target& target, std::vector<std::string> options) const {
        for (const ConfigEntry& entry : node(target.index).options) {
            if (entry.name == "profile" || entry.name == "version-command" || entry.name == "workers") {
                options.push_back("--" + entry.name + "=" + entry.value);
            }
        }
        for (const char* name : {"accept-incomplete", "allow-older-engine", "allow-low-space"}) {
            if (call_.options().flag(name)) {
                options.push_back("--" + std::string(name));
            }
        }
        if (target.mapped) {
            options.emplace_back("--allow-other-node");
        }
        return ClusterCall::access_words(node(target.index), "restore", options,
                                         {target.repository, target.backup, node(target.index).directory});
    }

    std::int64_t status_of(const Member& member) const {
        return member.stage == Stage::kDone ? cluster::number_of(member.result, "status") : static_cast<int>(ExitStatus::kFailed);
    }
    static bool fine(std::int64_t status) {
        return status == static_cast<int>(ExitStatus::kDone) || status == static_cast<int>(ExitStatus::kWarnings);
    }

    // A dry run on each says whether space, versions and the backup itself fit.
    void try_all() {
        std::vector<std::pair<std::size_t, std::vector<std::string>>> commands;
        for (const Target& target : targets_) {
            if (!target.done) {
                commands.emplace_back(target.index, restore_words(target, {"--dry-run"}));
            }
        }
        run_with_table(commands, "checking");
        std::vector<std::string> flaws;
        for (Target& target : targets_) {
            const Member& member = members_[target.index];
            if (target.done) {
                continue;
            }
            if (!fine(status_of(member)) && begun_.contains(target.index) && is_restored(target)) {
                target.done = true;
                continue;
            }
            if (!fine(status_of(member))) {
                flaws.push_back("node " + member.address.name + ": " + (member.error ? member.error->message() : member.output));
            }
            target.plan = member.output;
        }
        refuse(flaws, "`nodesnap restore --dry-run` on the node tells the same");
    }

    // An earlier run may have been cut off between putting it in place and noting that.
    bool is_restored(const Target& target) {
        run_on(members_, {{target.index, restore_words(target, {"--dry-run", "--delta", "--json"})}}, 1);
        const Member& member = members_[target.index];
        const auto end = member.output.rfind('}');
        const Json found =
            status_of(member) == 0 && end != std::string::npos ? Json::parse(member.output.substr(0, end + 1), nullptr, false) : Json();
        return found.is_object() && found.value("bytes", 1) == 0 && found.value("files_created", 1) == 0 &&
               found.value("files_changed", 1) == 0 && found.value("files_removed", 1) == 0;
    }

    void run_with_table(const std::vector<std::pair<std::size_t, std::vector<std::string>>>& commands, const char* phase) {
        ClusterTable table(call_.streams().err, call_.shows_progress());
        run_on(members_, commands, call_.options().count("parallel", 1, 1024, 4), [&] { table.show(members_, phase); });
    }

    void print_plan() {
        const bool dry_run = call_.options().flag("dry-run");
        if (call_.json()) {
            JsonWriter& document = call_.document();
            document.member("cut", cut_.proposal.id.text());
            document.member("dry_run", dry_run);
            document.begin_array("nodes");
            for (const Target& target : targets_) {
                document.begin_object();
                document.member("name", node(target.index).name);
                document.member("from", target.source);
                document.member("backup", target.backup);
                document.name("directory", node(target.index).directory);
                document.member("restored_before", target.done);
                document.end();
            }
            document.end();
            return;
        }
        if (call_.options().flag("quiet") && !dry_run) {
            return;
        }
        call_.out() << (dry_run ? "would restore" : "restoring") << " cluster backup " << cut_.proposal.id.text() << " of "
                    << human_time(cut_.proposal.created_ns) << " UTC, " << text_of(cut_.kind) << ", " << moment_of(cut_) << '\n';
        for (const Target& target : targets_) {
            call_.out() << "  " << printable_name(node(target.index).name) << ": backup " << target.backup
                        << (target.mapped ? " of node " + printable_name(target.source) : "") << " to "
                        << printable_name(node(target.index).directory) << (target.done ? "; it is there already" : "") << '\n';
            if (dry_run && !target.plan.empty()) {
                call_.out() << "    " << printable_text(target.plan) << '\n';
            }
            if (target.mapped) {
                call_.out() << "    its next backup goes to its own repository, and is a full one\n";
            }
        }
        call_.out().flush();
    }

    ExitStatus restore() {
        std::vector<std::pair<std::size_t, Json>> notes;
        std::vector<std::pair<std::size_t, std::vector<std::string>>> commands;
        for (const Target& target : targets_) {
            if (!target.done) {
                notes.emplace_back(target.index, place_job(target.index, target.backup, "begun"));
                commands.emplace_back(target.index, restore_words(target, {"--quiet"}));
            }
        }
        do_jobs(members_, notes);
        std::vector<std::string> flaws;
        for (const auto& [index, job] : notes) {
            if (members_[index].stage != Stage::kDone) {
                flaws.push_back(members_[index].error->message());
            }
        }
        refuse(flaws, "look at the node's state directory (--state-dir)");
        run_with_table(commands, "restoring");
        std::vector<std::pair<std::size_t, Json>> done;
        std::string failed;
        bool warned = false;
        std::map<std::size_t, std::string> outcomes;
        for (const Target& target : targets_) {
            const Member& member = members_[target.index];
            if (target.done) {
                continue;
            }
            const std::int64_t status = status_of(member);
            if (fine(status)) {
                done.emplace_back(target.index, place_job(target.index, target.backup, "restored"));
                warned = warned || status != 0;
                outcomes[target.index] = status == 0 ? "restored" : "restored, with warnings: " + member.output;
            } else {
                failed += (failed.empty() ? "" : ", ") + member.address.name;
                outcomes[target.index] = "FAILED: " + (member.error ? member.error->message() : member.output);
            }
        }
        do_jobs(members_, done);
        for (const auto& [index, job] : done) {
            if (members_[index].stage != Stage::kDone) {
                call_.report().warn("that it is restored couldn't be noted: " + members_[index].error->message());
            }
        }
        if (!call_.json()) {
            for (const auto& [index, text] : outcomes) {
                call_.out() << "  " << printable_name(node(index).name) << ": " << printable_text(text) << '\n';
            }
        }
        if (!failed.empty()) {
            throw Error::failed("not restored: " + failed,
                                "run the same command again: it goes on where it stopped, and leaves alone what is done");
        }
        forget_records();
        call_.done("the cluster is restored");
        if (!call_.json() && !call_.options().flag("quiet")) {
            call_.out() << "all is in place; start the daemons, in any order\n";
        }
        return warned ? ExitStatus::kWarnings : ExitStatus::kDone;
    }

    // Another run is another restore.
    void forget_records() {
        std::vector<std::pair<std::size_t, Json>> jobs;
        for (const Target& target : targets_) {
            jobs.emplace_back(target.index, place_job(target.index, target.backup, "finished"));
        }
        do_jobs(members_, jobs);
        for (const auto& [index, job] : jobs) {
            if (members_[index].stage != Stage::kDone) {
                call_.report().warn("that this restore is over couldn't be noted: " + members_[index].error->message());
            }
        }
    }

    Call& call_;
    ClusterCall& cluster_;
    Members& members_;
    std::vector<Target> candidates_;
    std::vector<Target> targets_;
    CutState cut_;
    std::set<std::size_t> begun_;  // something is there, and an earlier run has begun to restore it
};

}  // namespace

void declare_cluster_restore(OptionSet& options) {
    options.list("node", "NAME", "restore: only this node, into a cluster that may live (may be repeated)");
    options.list("map", "OLD=NEW", "restore: what was backed up of node OLD becomes node NEW (may be repeated)");
    options.list("map-repository", "OLD=PLACE", "restore: where the node that OLD becomes finds its repository (may be repeated)");
    options.flag("accept-incomplete", "restore: a cluster backup that isn't complete, and zeros for what couldn't be read");
    options.flag("allow-older-engine", "restore: though the engine that is installed there is older");
    options.flag("allow-low-space", "restore: though there seems to be too little space");
}

ExitStatus cluster_restore(Call& call, ClusterCall& cluster) {
    return ClusterRestore(call, cluster).run();
}

}  // namespace nodesnap::command
