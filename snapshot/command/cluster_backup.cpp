// nodesnap cluster backup: all nodes at one moment, drained in stages; and going on with what of one wasn't drained.
#include <algorithm>
#include <chrono>

#include "io/units.h"
#include "platform/interrupt.h"
#include "snapshot/cluster/coordinator.h"
#include "snapshot/command/cluster.h"
#include "snapshot/command/cluster_table.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

using cluster::CutResult;
using cluster::CutState;
using cluster::Member;
using cluster::Members;
using cluster::Stage;

constexpr unsigned kMostParallel = 1024;

cluster::DrainRules drain_rules(const Options& options) {
    constexpr unsigned kParallel = 4;
    constexpr unsigned kMostAttempts = 10;
    cluster::DrainRules rules;
    rules.parallel = options.count("parallel", 1, kMostParallel, kParallel);
    rules.cap = options.rate("limit");
    rules.attempts = options.count("retries", 0, kMostAttempts, rules.attempts);
    rules.pause = options.whole_seconds("retry-after", rules.pause);
    rules.detach = options.flag("detach");
    return rules;
}

std::string downtime_of(const Member& member) {
    return member.hold == CutPart::Hold::kNone ? "not held" : "held " + human_duration(std::chrono::nanoseconds(member.downtime_ns));
}

std::string outcome_of(const Member& member) {
    if (member.stage == Stage::kFailed) {
        return "FAILED: " + printable_text(member.error->message());
    }
    if (member.stage != Stage::kDone) {
        return std::string(text_of(member.stage));
    }
    const auto bytes = [&](const char* key) { return human_bytes(static_cast<std::uint64_t>(cluster::number_of(member.result, key))); };
    const double seconds = member.result.value("seconds", 0.0);
    return "backup " + cluster::text_of(member.result, "backup").substr(0, 12) + ", " + cluster::text_of(member.result, "consistency") +
           ", " + bytes("bytes") + ", read " + bytes("read") + ", stored " + bytes("stored") + ", drained in " +
           human_duration(std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9))) +
           (cluster::flag_of(member.result, "damaged") ? "; INCOMPLETE, not all could be read" : "");
}

std::string moment_of(const CutResult& result) {
    const std::string skew = human_duration(std::chrono::nanoseconds(result.skew_ns)) +
                             " from the beginning of the first snapshot to the end of the last (known to " +
                             human_duration(std::chrono::nanoseconds(result.skew_doubt_ns)) + ")";
    if (result.one_moment) {
        return "one moment: all nodes stood still while all snapshots were taken; " + skew;
    }
    return (result.held ? "NOT PROVED to be one moment, although all were held; " : "of no one moment, since nothing was held; ") + skew;
}

void print_summary(std::ostream& out, const Members& members, const CutResult& result, bool complete) {
    out << "cluster backup " << result.proposal.id.text() << (complete ? " is complete\n" : " is NOT complete\n") << "  "
        << moment_of(result) << '\n';
    for (const std::string& doubt : result.doubts) {
        out << "    " << printable_text(doubt) << '\n';
    }
    for (std::size_t index = 0; index < members.size(); ++index) {
        const Member& member = members[index];
        out << "  " << printable_name(member.address.name) << ": " << downtime_of(member) << "; " << outcome_of(member) << '\n';
    }
}

void write_nodes(JsonWriter& document, const Members& members) {
    document.begin_array("nodes");
    for (std::size_t index = 0; index < members.size(); ++index) {
        const Member& member = members[index];
        document.begin_object();
        document.member("name", member.address.name);
        document.member("state", text_of(member.stage));
        document.member("held_ns", member.downtime_ns);
        document.member("proved", member.hold == CutPart::Hold::kProved);
        document.member("doubt", member.doubt);
        document.member("snapshot_begun_ns", member.begun_ns);
        document.member("snapshot_ended_ns", member.ended_ns);
        document.member("round_trip_ns", member.clock.round_trip_ns());
        if (member.stage == Stage::kDone) {
            document.member("backup", cluster::text_of(member.result, "backup"));
            document.member("bytes", cluster::number_of(member.result, "bytes"));
            document.member("read_bytes", cluster::number_of(member.result, "read"));
            document.member("stored_bytes", cluster::number_of(member.result, "stored"));
            document.member("drain_seconds", member.result.value("seconds", 0.0));
        }
        document.member("error", member.error ? member.error->message() : "");
        document.end();
    }
    document.end();
}

void write_result(JsonWriter& document, const Members& members, const CutResult& result, bool complete) {
    document.member("cut", result.proposal.id.text());
    document.member("cluster", result.proposal.cluster);
    document.member("complete", complete);
    document.member("held", result.held);
    document.member("one_moment", result.one_moment);
    document.member("skew_ns", result.skew_ns);
    document.member("skew_doubt_ns", result.skew_doubt_ns);
    write_nodes(document, members);
}

void tell_warnings(Report& report, const Members& members) {
    for (std::size_t index = 0; index < members.size(); ++index) {
        for (const std::string& warning : members[index].warnings) {
            report.warn("node " + members[index].address.name + ": " + warning);
        }
    }
}

// Whether all that was to be is a backup now.
bool all_done(const Members& members, const std::vector<std::string>& names) {
    for (std::size_t index = 0; index < members.size(); ++index) {
        const Member& member = members[index];
        if (std::find(names.begin(), names.end(), member.address.name) != names.end() &&
            (member.stage != Stage::kDone || cluster::flag_of(member.result, "damaged"))) {
            return false;
        }
    }
    return true;
}

bool is_complete_now(Call& call, const ClusterCall& cluster, const CutId& id) {
    ClusterCall asked(call, cluster.file_name);  // what became of each is still to be told
    for (const CutState& cut : cut_states(inspect_all(call, asked))) {
        if (cut.proposal.id == id) {
            return cut.kind == CutState::Kind::kComplete;
        }
    }
    return false;
}

ExitStatus take(Call& call, ClusterCall& cluster) {
    const Options& options = call.options();
    cluster::CutOptions cut;
    cut.cluster = cluster.file.name;
    cut.cluster_file = cluster.text;
    cut.degraded = options.flag("degraded");
    cut.accept_skew = options.flag("accept-skew");
    cut.patience = options.whole_seconds("timeout", cut.patience);
    cut.drains = drain_rules(options);
    Members& members = *cluster.members;
    CutResult result;
    {
        ClusterTable table(call.streams().err, call.shows_progress());
        cut.watch = [&](const Members& all, const char* phase) { table.show(all, phase); };
        result = take_cut(members, cut);
    }
    tell_warnings(call.report(), members);
    std::vector<std::string> parts;
    for (const CutProposal::Node& node : result.proposal.nodes) {
        parts.push_back(node.name);
    }
    // A part whose coordinator or connection was lost may have been finished all the same.
    const bool complete = all_done(members, parts) || is_complete_now(call, cluster, result.proposal.id);
    bool lost = false;
    for (std::size_t index = 0; index < members.size(); ++index) {
        lost = lost || (members[index].was_stored && members[index].stage != Stage::kDone);
    }
    call.done("the cluster backup " + result.proposal.id.text() + " is made");
    if (call.json()) {
        write_result(call.document(), members, result, complete);
    } else if (!options.flag("quiet")) {
        print_summary(call.out(), members, result, complete);
    }
    if (!complete && (lost || !cut.degraded)) {
        throw Error::failed("the cluster backup isn't complete", "`nodesnap cluster backup --finish` goes on with what is missing");
    }
    return complete && (result.one_moment || !result.held) ? ExitStatus::kDone : ExitStatus::kWarnings;
}

const CutState& unfinished_cut(const std::vector<CutState>& cuts, const std::string& name) {
    if (!name.empty()) {
        return find_cut(cuts, name);
    }
    const auto found = std::find_if(cuts.rbegin(), cuts.rend(), [](const CutState& cut) {
        return std::any_of(cut.nodes.begin(), cut.nodes.end(), [](const CutState::Node& node) { return node.draft.has_value(); }) &&
               cut.kind != CutState::Kind::kGivenUp && !cut.forgotten;
    });
    if (found == cuts.rend()) {
        throw Error::refused("there is no cluster backup that could be gone on with", "`nodesnap cluster list` shows what there is");
    }
    return *found;
}

ExitStatus finish(Call& call, ClusterCall& cluster, const std::string& name) {
    Members& members = *cluster.members;
    const std::vector<CutState> cuts = cut_states(inspect_all(call, cluster));
    const CutState& cut = unfinished_cut(cuts, name);
    std::vector<std::string> resumed;
    cluster::DrainRules rules = drain_rules(call.options());
    {
        ClusterTable table(call.streams().err, call.shows_progress());
        rules.watch = [&](const Members& all) { table.show(all, "draining"); };
        cluster::Drains drains(members, rules);
        for (std::size_t index = 0; index < members.size(); ++index) {
            const auto node = std::find_if(cut.nodes.begin(), cut.nodes.end(),
                                           [&](const CutState::Node& other) { return other.name == members[index].address.name; });
            if (node != cut.nodes.end() && node->draft) {
                resumed.push_back(node->name);
                drains.resume(index, *node->draft);
            }
        }
        if (resumed.empty()) {
            throw Error::refused("cluster backup " + cut.proposal.id.text() + " has no part that could be gone on with: it is " +
                                     text_of(cut.kind) + (cut.why.empty() ? "" : ", " + cut.why),
                                 "`nodesnap cluster show` tells of each node");
        }
        drains.run();
    }
    tell_warnings(call.report(), members);
    const bool done = all_done(members, resumed);
    if (call.json()) {
        call.document().member("cut", cut.proposal.id.text());
        write_nodes(call.document(), members);
    } else if (!call.options().flag("quiet")) {
        for (std::size_t index = 0; index < members.size(); ++index) {
            if (std::find(resumed.begin(), resumed.end(), members[index].address.name) != resumed.end()) {
                call.out() << "  " << printable_name(members[index].address.name) << ": " << outcome_of(members[index]) << '\n';
            }
        }
    }
    const std::vector<CutState> now = cut_states(inspect_all(call, cluster));
    const CutState& state = find_cut(now, cut.proposal.id.text());
    // One that failed here may have been finished by an agent that a lost coordinator had left draining.
    if (!done && state.kind != CutState::Kind::kComplete) {
        throw Error::failed("the cluster backup isn't complete yet", "run it again; `nodesnap cluster show` tells of each node");
    }
    if (!call.json() && !call.options().flag("quiet")) {
        call.out() << "cluster backup " << state.proposal.id.text() << " is " << text_of(state.kind) << ", " << moment_of(state) << '\n';
    }
    return state.kind == CutState::Kind::kComplete ? ExitStatus::kDone : ExitStatus::kWarnings;
}

}  // namespace

void declare_cluster_backup(OptionSet& options) {
    options.value("parallel", "N", "backup, verify, restore: so many nodes at once, in the file's order (default 4)");
    options.value("limit", "RATE", "backup: read and write at most so many bytes a second in the whole cluster (default: no limit)");
    options.flag("degraded",
                 "backup: go on without nodes that fail before the snapshots are taken, and name them (default: all or nothing)");
    options.flag("accept-skew", "backup: also where some nodes are held and others aren't");
    options.value("timeout", "DURATION", "backup: how long a node may take for what comes before it is held (default 15m)");
    options.value("retries", "N", "backup: how often a node whose drain fails is tried again, alone (default 3)");
    options.value("retry-after", "DURATION",
                  "backup: how long before the first of these; then five times as long, then fifteen (default 1m)");
    options.flag("detach", "backup: interrupted, leave alone what drains");
    options.flag("finish", "backup: take nothing; go on with the newest cluster backup that isn't drained, or with ID");
}

ExitStatus cluster_backup(Call& call, ClusterCall& cluster) {
    const std::string id = call.optional_positional("ID");
    call.end_of_positionals();
    if (call.options().flag("finish")) {
        return finish(call, cluster, id);
    }
    if (!id.empty()) {
        throw Error::usage("a backup that is yet to be taken has no id", "--finish goes on with one");
    }
    return take(call, cluster);
}

}  // namespace nodesnap::command
