#include "snapshot/command/cluster_nodes.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <deque>
#include <string_view>

#include "io/remote/ssh.h"
#include "platform/clock.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "platform/program_stream.h"
#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

using cluster::Json;
using cluster::Member;
using cluster::Members;
using cluster::Stage;

constexpr std::int64_t kTickNs = 500'000'000;
// Options of a node's backup that say how its repository is reached.
constexpr std::array<std::string_view, 4> kAccess{"ssh", "remote-program", "connections", "state-dir"};

// The agent of this host, as a child.
class LocalTransport : public remote::Transport {
public:
    LocalTransport() : program_({read_link(AT_FDCWD, "/proc/self/exe"), "agent"}, false) { program_.may_outlive(); }
    FileDescriptor take_in() override { return program_.take_in(); }
    FileDescriptor take_out() override { return program_.take_out(); }
    std::string describe() const override { return "this host"; }
    std::string last_words() override {
        constexpr std::chrono::seconds kPatience{2};
        return program_.end(kPatience);
    }

private:
    ProgramStream program_;
};

std::string read_text(const std::string& file_name) {
    const auto text = read_small_file(file_name);
    if (!text) {
        throw Error::usage("there is no cluster file " + file_name);
    }
    if (!is_utf8(*text)) {
        throw Error::usage("the cluster file " + file_name + " isn't UTF-8");
    }
    return *text;
}

// Until none of them has anything to say any more.
void wait_for_answers(Members& members, const std::vector<std::size_t>& asked) {
    const auto open = [&] {
        return std::any_of(asked.begin(), asked.end(),
                           [&](std::size_t index) { return members[index].live() && members[index].stage != Stage::kDone; });
    };
    while (open()) {
        members.advance(monotonic_ns() + kTickNs);
    }
}

}  // namespace

void declare_cluster_nodes(OptionSet& options) {
    options.value("ssh", "COMMAND", "what reaches the nodes at ssh://HOST: ssh, with options of its own (default ssh)");
    options.value("remote-program", "PATH", "where nodesnap is on the nodes (default nodesnap, found by their PATH)");
}

ClusterCall::ClusterCall(Call& call, const std::string& name)
    : file_name(name), text(read_text(name)), file(parse_cluster_file(text, name)) {
    const remote::SshOptions ssh{call.options().text("ssh", "ssh"), call.options().text("remote-program", "nodesnap")};
    std::vector<cluster::NodeAddress> addresses;
    for (const ClusterNode& node : file.nodes) {
        cluster::NodeAddress address;
        address.name = node.name;
        address.repository = node.repository;
        address.words = backup_words(node);
        const Options check(options_of(kBackup), address.words);
        if (node.address.empty()) {
            address.dial = [] { return std::make_unique<LocalTransport>(); };
        } else {
            address.dial = [place = remote::parse_ssh_host(node.address).value(), ssh] { return remote::dial_agent(place, ssh); };
        }
        addresses.push_back(std::move(address));
    }
    members = std::make_unique<Members>(std::move(addresses));
}

std::vector<std::string> ClusterCall::backup_words(const ClusterNode& node) {
    std::vector<std::string> words;
    for (const ConfigEntry& entry : node.options) {
        words.push_back("--" + entry.name + "=" + entry.value);
    }
    words.insert(words.end(), {"--", node.directory, node.repository});
    return words;
}

std::vector<std::string> ClusterCall::access_words(const ClusterNode& node, const std::string& command,
                                                   const std::vector<std::string>& options, const std::vector<std::string>& positionals) {
    const OptionSet known = options_of(*find_command(command));
    std::vector<std::string> words{command};
    for (const ConfigEntry& entry : node.options) {
        if (std::find(kAccess.begin(), kAccess.end(), entry.name) != kAccess.end() && known.has(entry.name)) {
            words.push_back("--" + entry.name + "=" + entry.value);
        }
    }
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back("--");
    words.insert(words.end(), positionals.begin(), positionals.end());
    return words;
}

void do_jobs(Members& members, const std::vector<std::pair<std::size_t, Json>>& jobs) {
    std::vector<std::size_t> nodes;
    nodes.reserve(jobs.size());
    for (const auto& [index, job] : jobs) {
        nodes.push_back(index);
    }
    members.reach(nodes);
    for (const auto& [index, job] : jobs) {
        members[index].answers.clear();
        members.say(index, job);
    }
    wait_for_answers(members, nodes);
}

std::vector<cluster::NodeFacts> inspect(Call& call, Members& members, const std::vector<Inspection>& inspections) {
    std::vector<std::pair<std::size_t, Json>> jobs;
    jobs.reserve(inspections.size());
    for (const Inspection& inspection : inspections) {
        jobs.emplace_back(inspection.index, Json{{"do", "job"}, {"job", "inspect"}, {"words", inspection.words}});
    }
    do_jobs(members, jobs);
    std::vector<cluster::NodeFacts> facts;
    for (const Inspection& inspection : inspections) {
        Member& member = members[inspection.index];
        facts.push_back(cluster::NodeFacts::of(inspection.name, member.answers));
        if (member.stage != Stage::kDone) {
            facts.back().unreachable = member.error->message();
            call.report().warn(member.error->message() + (member.error->hint().empty() ? "" : "; " + member.error->hint()));
        }
        member.answers.clear();
    }
    return facts;
}

std::vector<cluster::NodeFacts> inspect_all(Call& call, ClusterCall& cluster) {
    std::vector<Inspection> inspections;
    for (std::size_t index = 0; index < cluster.members->size(); ++index) {
        const cluster::NodeAddress& address = (*cluster.members)[index].address;
        inspections.push_back({index, address.words, address.name});
    }
    return inspect(call, *cluster.members, inspections);
}

void run_on(Members& members, const std::vector<std::pair<std::size_t, std::vector<std::string>>>& commands, unsigned parallel,
            const std::function<void()>& watch) {
    std::vector<std::size_t> nodes;
    nodes.reserve(commands.size());
    for (const auto& [index, words] : commands) {
        nodes.push_back(index);
    }
    members.reach(nodes);
    std::deque<const std::pair<std::size_t, std::vector<std::string>>*> waiting;
    for (const auto& command : commands) {
        waiting.push_back(&command);
    }
    std::vector<std::size_t> running;
    while (!waiting.empty() || !running.empty()) {
        std::erase_if(running, [&](std::size_t index) { return !members[index].live() || members[index].stage == Stage::kDone; });
        while (!waiting.empty() && running.size() < parallel) {
            const auto& [index, words] = *waiting.front();
            waiting.pop_front();
            if (members[index].live()) {
                members[index].output.clear();
                members[index].stage = Stage::kDraining;
                members.say(index, {{"do", "job"}, {"job", "run"}, {"words", words}});
                running.push_back(index);
            }
        }
        if (watch) {
            watch();
        }
        if (!running.empty()) {
            members.advance(monotonic_ns() + kTickNs);
        }
    }
}

std::size_t mark_on(Call& call, Members& members, const std::vector<std::size_t>& nodes, const CutId& cut, CutMark mark,
                    const std::string& why) {
    std::vector<std::pair<std::size_t, Json>> jobs;
    jobs.reserve(nodes.size());
    for (const std::size_t index : nodes) {
        jobs.emplace_back(index, Json{{"do", "job"},
                                      {"job", "mark"},
                                      {"words", members[index].address.words},
                                      {"cut", cut.text()},
                                      {"mark", mark == CutMark::kForgotten ? "forgotten" : "given-up"},
                                      {"why", why}});
    }
    do_jobs(members, jobs);
    std::size_t marked = 0;
    for (const std::size_t index : nodes) {
        if (members[index].stage == Stage::kDone) {
            ++marked;
        } else {
            call.report().warn("the cluster backup isn't marked there: " + members[index].error->message());
        }
    }
    return marked;
}

const cluster::CutState& find_cut(const std::vector<cluster::CutState>& cuts, const std::string& name) {
    const cluster::CutState* found = nullptr;
    for (const cluster::CutState& cut : cuts) {
        if (name == "latest") {
            found = cut.kind == cluster::CutState::Kind::kComplete && !cut.forgotten ? &cut : found;
        } else if (cut.proposal.id.text().starts_with(name)) {
            if (found != nullptr) {
                throw Error::usage("several cluster backups have an id that begins with \"" + shortened(printable_name(name)) + "\"",
                                   "give more of it");
            }
            found = &cut;
        }
    }
    if (found == nullptr) {
        throw Error::refused(name == "latest" ? "there is no complete cluster backup"
                                              : "there is no cluster backup \"" + shortened(printable_name(name)) + "\"",
                             "`nodesnap cluster list` shows what there is");
    }
    return *found;
}

}  // namespace nodesnap::command
