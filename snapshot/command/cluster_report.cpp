// nodesnap cluster list, show, status, verify: what there is of cluster backups, and whether it is good.
#include <algorithm>
#include <chrono>
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
using cluster::Member;
using cluster::Members;
using cluster::NodeFacts;
using cluster::Stage;

constexpr std::size_t kShortId = 13;  // "0a1b2c3d-4e5f"

bool any_unreachable(const std::vector<NodeFacts>& facts) {
    return std::any_of(facts.begin(), facts.end(), [](const NodeFacts& node) { return !node.unreachable.empty(); });
}

std::string state_text(const CutState& cut) {
    return std::string(text_of(cut.kind)) + (cut.forgotten ? " (forgotten)" : "");
}

std::string missing_nodes(const CutState& cut) {
    std::string names;
    for (const CutState::Node& node : cut.nodes) {
        if (!node.part || node.part->damaged) {
            names += (names.empty() ? "" : ", ") + printable_name(node.name);
        }
    }
    return names;
}

void write_cut(JsonWriter& document, const CutState& cut) {
    document.member("id", cut.proposal.id.text());
    document.member("cluster", cut.proposal.cluster);
    document.member("created_time", format_utc_precise(cut.proposal.created_ns));
    document.member("state", text_of(cut.kind));
    document.member("why", cut.why);
    document.member("forgotten", cut.forgotten);
    document.member("held", cut.held);
    document.member("one_moment", cut.one_moment);
    if (cut.skew_ns >= 0) {
        document.member("skew_ns", cut.skew_ns);
        document.member("skew_doubt_ns", cut.skew_doubt_ns);
    }
    document.member("bytes", cut.bytes);
    document.member("stored_bytes", cut.stored_bytes);
    document.begin_array("nodes");
    for (const CutState::Node& node : cut.nodes) {
        document.begin_object();
        document.member("name", node.name);
        document.member("what", node.what);
        if (node.part) {
            document.member("backup", node.part->id.hex());
            document.member("snapshot_time", format_utc_precise(node.part->snapshot_ns));
            document.member("snapshot_ns", node.part->snapshot_duration_ns);
            document.member("held_ns", node.part->held_ns);
            document.member("consistency", node.part->consistency);
            document.member("bytes", node.part->bytes);
            document.member("stored_bytes", node.part->stored_bytes);
        }
        document.end();
    }
    document.end();
}

void print_cut(std::ostream& out, const CutState& cut) {
    out << "cluster backup " << cut.proposal.id.text() << " of " << printable_name(cut.proposal.cluster) << ", "
        << human_time(cut.proposal.created_ns) << " UTC\n"
        << "  " << state_text(cut) << (cut.why.empty() ? "" : ": " + printable_text(cut.why)) << '\n'
        << "  "
        << (cut.one_moment ? "one moment: all nodes stood still while all snapshots were taken"
            : cut.held     ? "held, but not proved to be of one moment"
                           : "of no one moment, since not all were held");
    if (cut.skew_ns >= 0) {
        out << "; " << human_duration(std::chrono::nanoseconds(cut.skew_ns))
            << " from the first snapshot's beginning to the last one's end, known to "
            << human_duration(std::chrono::nanoseconds(cut.skew_doubt_ns));
    }
    out << '\n';
    for (const CutState::Node& node : cut.nodes) {
        out << "  " << printable_name(node.name) << ": " << printable_text(node.what);
        if (node.part) {
            const cluster::Part& part = *node.part;
            out << ", backup " << part.id.hex() << ", " << part.consistency << ", held "
                << human_duration(std::chrono::nanoseconds(part.held_ns)) << ", " << human_bytes(part.bytes) << ", stored "
                << human_bytes(part.stored_bytes);
        } else if (node.draft) {
            out << ", backup " << node.draft->hex();
        }
        out << '\n';
    }
}

// What is told is without what those have that can't be asked.
ExitStatus status_of(const std::vector<NodeFacts>& facts) {
    return any_unreachable(facts) ? ExitStatus::kWarnings : ExitStatus::kDone;
}

}  // namespace

ExitStatus cluster_list(Call& call, ClusterCall& cluster) {
    call.end_of_positionals();
    const auto facts = inspect_all(call, cluster);
    const auto cuts = cut_states(facts);
    if (call.json()) {
        call.document().begin_array("cluster_backups");
        for (const CutState& cut : cuts) {
            call.document().begin_object();
            write_cut(call.document(), cut);
            call.document().end();
        }
        call.document().end();
        return status_of(facts);
    }
    for (const CutState& cut : cuts) {
        call.out() << cut.proposal.id.text().substr(0, kShortId) << "  " << human_time(cut.proposal.created_ns) << "  " << state_text(cut);
        if (cut.kind == CutState::Kind::kComplete) {
            call.out() << ", " << moment_of(cut);
        } else if (const std::string missing = missing_nodes(cut); !missing.empty()) {
            call.out() << ", without " << missing;
        }
        call.out() << ", " << counted(cut.nodes.size(), "node", "nodes") << ", " << human_bytes(cut.bytes) << '\n';
    }
    if (cuts.empty()) {
        call.out() << "no cluster backups\n";
    }
    return status_of(facts);
}

ExitStatus cluster_show(Call& call, ClusterCall& cluster) {
    const std::string id = call.optional_positional("ID");
    call.end_of_positionals();
    const auto cuts = cut_states(inspect_all(call, cluster));
    const CutState& cut = find_cut(cuts, id.empty() ? "latest" : id);
    if (call.options().flag("cluster-file")) {
        call.out() << cut.proposal.cluster_file;
    } else if (call.json()) {
        write_cut(call.document(), cut);
    } else {
        print_cut(call.out(), cut);
    }
    return cut.kind == CutState::Kind::kComplete ? ExitStatus::kDone : ExitStatus::kWarnings;
}

ExitStatus cluster_status(Call& call, ClusterCall& cluster) {
    call.end_of_positionals();
    const auto most = call.options().duration("max-age");
    const auto facts = inspect_all(call, cluster);
    const auto cuts = cut_states(facts);
    const CutState* newest = nullptr;
    for (const CutState& cut : cuts) {
        newest = cut.kind == CutState::Kind::kComplete && !cut.forgotten ? &cut : newest;
    }
    const std::int64_t now = utc_now();
    const auto age_of = [now](std::int64_t when) { return std::chrono::nanoseconds(std::max<std::int64_t>(0, now - when)); };
    std::vector<std::string> late;
    if (call.json()) {
        call.document().begin_array("nodes");
    }
    for (const NodeFacts& node : facts) {
        const bool too_old = !node.newest || (most && age_of(node.newest_ns) > *most);
        if (too_old) {
            late.push_back(node.name + (!node.unreachable.empty() ? " (can't be asked)" : node.newest ? "" : " (none)"));
        }
        if (call.json()) {
            call.document().begin_object();
            call.document().member("name", node.name);
            call.document().member("reachable", node.unreachable.empty());
            call.document().member("last_good", node.newest ? node.newest->hex() : "");
            if (node.newest) {
                call.document().member("age_seconds", std::chrono::duration<double>(age_of(node.newest_ns)).count());
            }
            call.document().member("too_old", too_old);
            call.document().end();
        } else {
            call.out() << printable_name(node.name) << ": "
                       << (!node.unreachable.empty() ? "can't be asked"
                           : node.newest ? "last good backup " + node.newest->hex() + ", " + human_duration(age_of(node.newest_ns)) + " ago"
                                         : "no good backup")
                       << (too_old && node.newest ? "  TOO OLD" : "") << '\n';
        }
    }
    const bool cut_too_old = newest == nullptr || (most && age_of(newest->proposal.created_ns) > *most);
    if (call.json()) {
        call.document().end();
        if (newest != nullptr) {
            call.document().begin_object("last_complete");
            write_cut(call.document(), *newest);
            call.document().member("age_seconds", std::chrono::duration<double>(age_of(newest->proposal.created_ns)).count());
            call.document().end();
        } else {
            call.document().null("last_complete");
        }
        call.document().member("too_old", cut_too_old);
    } else if (newest != nullptr) {
        call.out() << "cluster: last complete backup " << newest->proposal.id.text() << ", "
                   << human_duration(age_of(newest->proposal.created_ns)) << " ago, " << moment_of(*newest)
                   << (cut_too_old ? "  TOO OLD" : "") << '\n';
    } else {
        call.out() << "cluster: no complete backup\n";
    }
    if (!late.empty() || cut_too_old) {
        std::string text;
        for (const std::string& name : late) {
            text += (text.empty() ? "" : ", ") + name;
        }
        throw Error::failed(late.empty() ? "the cluster has no complete backup that is young enough"
                                         : "nodes without a good backup that is young enough: " + text);
    }
    return ExitStatus::kDone;
}

ExitStatus cluster_verify(Call& call, ClusterCall& cluster) {
    const std::string id = call.optional_positional("ID");
    call.end_of_positionals();
    Members& members = *cluster.members;
    const auto cuts = cut_states(inspect_all(call, cluster));
    const CutState& cut = find_cut(cuts, id.empty() ? "latest" : id);
    std::vector<std::pair<std::size_t, std::vector<std::string>>> commands;
    std::vector<std::string> options{"--quiet"};
    if (call.options().flag("data")) {
        options.emplace_back("--data");
    }
    for (std::size_t index = 0; index < members.size(); ++index) {
        const auto node = std::find_if(cut.nodes.begin(), cut.nodes.end(),
                                       [&](const CutState::Node& other) { return other.name == members[index].address.name; });
        if (node != cut.nodes.end() && node->part) {
            commands.emplace_back(index, ClusterCall::access_words(cluster.file.nodes[index], "verify", options,
                                                                   {members[index].address.repository, node->part->id.hex()}));
        }
    }
    {
        ClusterTable table(call.streams().err, call.shows_progress());
        run_on(members, commands, call.options().count("parallel", 1, 1024, 4), [&] { table.show(members, "verifying"); });
    }
    ExitStatus worst = cut.kind == CutState::Kind::kComplete ? ExitStatus::kDone : ExitStatus::kWarnings;
    std::string bad;
    for (const auto& [index, words] : commands) {
        const Member& member = members[index];
        const auto status =
            member.stage == Stage::kDone ? static_cast<ExitStatus>(cluster::number_of(member.result, "status")) : ExitStatus::kFailed;
        if (!call.json()) {
            call.out() << printable_name(member.address.name) << ": "
                       << (member.stage != Stage::kDone      ? "FAILED: " + printable_text(member.error->message())
                           : status == ExitStatus::kDone     ? "good"
                           : status == ExitStatus::kWarnings ? "good, with warnings:"
                                                             : "BAD, exit status " + std::to_string(static_cast<int>(status)) + ":")
                       << '\n';
            if (status != ExitStatus::kDone && !member.output.empty()) {
                call.out() << printable_text(member.output) << '\n';
            }
        }
        if (status != ExitStatus::kDone && status != ExitStatus::kWarnings) {
            bad += (bad.empty() ? "" : ", ") + member.address.name;
            worst = status == ExitStatus::kDamaged || worst == ExitStatus::kDamaged ? ExitStatus::kDamaged : ExitStatus::kFailed;
        }
    }
    if (call.json()) {
        write_cut(call.document(), cut);
        call.document().member("bad", bad);
    } else {
        call.out() << "cluster backup " << cut.proposal.id.text() << " is " << text_of(cut.kind) << (cut.why.empty() ? "" : ": " + cut.why)
                   << (bad.empty() ? "" : "; not good: " + bad) << '\n';
    }
    if (!bad.empty()) {
        throw Error(worst, "parts of the cluster backup aren't good: " + bad, "`nodesnap verify` on the node's repository tells more");
    }
    return worst;
}

}  // namespace nodesnap::command
