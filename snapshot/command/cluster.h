// The actions of `nodesnap cluster`, one file for each that is large.
#pragma once

#include "snapshot/command/cluster_nodes.h"

namespace nodesnap::command {

ExitStatus cluster_backup(Call& call, ClusterCall& cluster);
ExitStatus cluster_list(Call& call, ClusterCall& cluster);
ExitStatus cluster_show(Call& call, ClusterCall& cluster);
ExitStatus cluster_status(Call& call, ClusterCall& cluster);
ExitStatus cluster_verify(Call& call, ClusterCall& cluster);
ExitStatus cluster_forget(Call& call, ClusterCall& cluster);
ExitStatus cluster_restore(Call& call, ClusterCall& cluster);

void declare_cluster_backup(OptionSet& options);
void declare_cluster_restore(OptionSet& options);

}  // namespace nodesnap::command
