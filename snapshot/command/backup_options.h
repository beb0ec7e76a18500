// The options of `backup`: of a call of it, and of a node of a cluster.
#pragma once

#include <string>

#include "snapshot/backup.h"
#include "snapshot/command/options.h"

namespace nodesnap::command {

void declare_backup(OptionSet& options);
// Error::usage for what is wrong.
BackupOptions backup_options(const Options& options, const std::string& node_directory);

}  // namespace nodesnap::command
