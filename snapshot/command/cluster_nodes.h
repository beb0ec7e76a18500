// What the actions of `nodesnap cluster` share: the cluster file's nodes and the way to their agents, and what they tell.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "snapshot/cluster/cut_state.h"
#include "snapshot/cluster/member.h"
#include "snapshot/command/cluster_file.h"
#include "snapshot/command/command.h"

namespace nodesnap::command {

// A cluster as its file says, in its order.
struct ClusterCall {
    std::string file_name;
    std::string text;
    ClusterFile file;
    std::unique_ptr<cluster::Members> members;

    ClusterCall(Call& call, const std::string& file_name);
    // What `backup` is given for the node.
    static std::vector<std::string> backup_words(const ClusterNode& node);
    // The options among those with which its repository is reached, with `positionals`.
    static std::vector<std::string> access_words(const ClusterNode& node, const std::string& command,
                                                 const std::vector<std::string>& options, const std::vector<std::string>& positionals);
};

void declare_cluster_nodes(OptionSet& options);

// Asks all nodes what their repositories have. One that can't be asked says why, and is a warning.
std::vector<cluster::NodeFacts> inspect_all(Call& call, ClusterCall& cluster);
// The same of repositories that nodes reach: who is asked, with which words of a backup, and under which name what it tells is taken.
struct Inspection {
    std::size_t index;
    std::vector<std::string> words;
    std::string name;
};
std::vector<cluster::NodeFacts> inspect(Call& call, cluster::Members& members, const std::vector<Inspection>& inspections);
// Has each of these do a job, at once; those that fail are kFailed.
void do_jobs(cluster::Members& members, const std::vector<std::pair<std::size_t, cluster::Json>>& jobs);
// Has these nodes run a command each, at most `parallel` at once; its exit status and what it printed are in the members, `result` and
// `output`. A node that can't be reached is kFailed. `watch` is called now and then.
void run_on(cluster::Members& members, const std::vector<std::pair<std::size_t, std::vector<std::string>>>& commands, unsigned parallel,
            const std::function<void()>& watch = {});
// Marks a cut in the repositories of these nodes; who fails is named in a warning. How many have the mark.
std::size_t mark_on(Call& call, cluster::Members& members, const std::vector<std::size_t>& nodes, const CutId& cut, CutMark mark,
                    const std::string& why);

// The cut that the operator names: an id, a unique beginning of one, or "latest", the newest complete one that isn't forgotten.
const cluster::CutState& find_cut(const std::vector<cluster::CutState>& cuts, const std::string& name);

}  // namespace nodesnap::command
