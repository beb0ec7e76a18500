#include "snapshot/command/cluster.h"

#include <algorithm>
#include <array>

#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

struct Action {
    const char* name;
    ExitStatus (*run)(Call& call, ClusterCall& cluster);
};
constexpr std::array<Action, 7> kActions{{{"backup", cluster_backup},
                                          {"list", cluster_list},
                                          {"show", cluster_show},
                                          {"status", cluster_status},
                                          {"verify", cluster_verify},
                                          {"forget", cluster_forget},
                                          {"restore", cluster_restore}}};

void declare(OptionSet& options) {
    declare_cluster_nodes(options);
    declare_cluster_backup(options);
    declare_cluster_restore(options);
    options.value("max-age", "DURATION",
                  "status: exit with 1 if a node's last good backup, or the last complete one of all, is older, as in 26h");
    options.flag("data", "verify: read and check all data, too");
    options.flag("cluster-file", "show: print the cluster file as it was at that backup");
    options.value("keep-last", "N", "forget: keep the N newest");
    options.value("keep-daily", "N", "forget: keep the newest of each of the N newest days that have one");
    options.value("keep-weekly", "N", "forget: the same for weeks, which begin on Monday");
    options.value("keep-monthly", "N", "forget: the same for months");
    options.value("keep-yearly", "N", "forget: the same for years");
    options.value("keep-within", "DURATION", "forget: keep all that aren't older than the newest by more than this, as in 30d");
    options.flag("prune", "forget: give the space back, too");
    options.flag("allow-newest", "forget: the newest complete one may go if it is named");
    options.flag("allow-mass-expire", "forget: more than half may go at once");
    options.flag("dry-run", "forget, restore: only tell what would be done");
    options.flag("quiet", "no table and no summary");
    options.flag("json", "print the result as a JSON document");
}

ExitStatus run(Call& call) {
    const std::string name = call.positional("ACTION (backup, list, show, status, verify, forget or restore)");
    const auto* action = std::find_if(kActions.begin(), kActions.end(), [&](const Action& other) { return name == other.name; });
    if (action == kActions.end()) {
        std::vector<std::string> names;
        names.reserve(kActions.size());
        for (const Action& other : kActions) {
            names.emplace_back(other.name);
        }
        throw Error::usage("unknown action \"" + shortened(printable_name(name)) + "\"", suggestion(name, names));
    }
    const std::string file = call.positional("CLUSTER_FILE");
    ClusterCall cluster(call, file);
    return action->run(call, cluster);
}

}  // namespace

const Command kCluster = {
    "cluster",
    "back up, restore and watch all nodes of a cluster, at one moment",
    "nodesnap cluster backup CLUSTER_FILE [OPTION]...\n"
    "nodesnap cluster backup CLUSTER_FILE --finish [ID] [OPTION]...\n"
    "nodesnap cluster list|status CLUSTER_FILE [OPTION]...\n"
    "nodesnap cluster show|verify CLUSTER_FILE [ID] [OPTION]...\n"
    "nodesnap cluster forget CLUSTER_FILE --keep-RULE N...|ID... [OPTION]...\n"
    "nodesnap cluster restore CLUSTER_FILE [ID] [OPTION]...\n",
    "A cluster file names the nodes: how each is reached (here, or over ssh, where nodesnap is installed too), its directory, its own\n"
    "repository, and the options of its backup; see the guide. backup gets all nodes ready, then holds all, takes all snapshots, and lets\n"
    "all go: no snapshot has an effect whose cause another lacks. Any node that doesn't confirm in time makes all let go. Then the\n"
    "snapshots are drained, a few nodes at once, under one cap. Without --hold the backup is labelled with its skew instead.\n"
    "A cluster backup is complete when each node's is; each node's repository has the record of it, so that nothing is lost with the\n"
    "host that this runs on. One that was cut off is gone on with by --finish, from the snapshots that the nodes hold.\n"
    "restore looks at all nodes first: daemons stopped, directories empty, space, versions; and touches nothing unless all fit.\n",
    "nodesnap cluster backup /etc/nodesnap/orders.cluster --parallel 2 --limit 200M\n"
    "nodesnap cluster status /etc/nodesnap/orders.cluster --max-age 26h\n"
    "nodesnap cluster forget /etc/nodesnap/orders.cluster --keep-daily 7 --keep-weekly 5 --prune\n"
    "nodesnap cluster restore /etc/nodesnap/orders.cluster latest --dry-run\n",
    "0  done; backup: complete, and of one moment if the nodes were held\n"
    "1  failed; backup: not complete, --finish goes on with what was taken, if anything was; status: too old, or none\n"
    "2  wrong usage, or something wrong in the cluster file\n"
    "3  refused, nothing was touched\n"
    "4  done, with warnings: not proved to be of one moment, nodes are missing (--degraded), a node can't be asked\n"
    "5  verify: a part is damaged\n"
    "6  another holds a node's repository\n",
    declare,
    run,
};

}  // namespace nodesnap::command
