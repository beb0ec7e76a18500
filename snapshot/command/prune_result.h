// What `prune` and `forget --prune` are told, and say of their work.
#pragma once

#include <string>

#include "snapshot/command/json_writer.h"
#include "snapshot/command/options.h"
#include "snapshot/prune.h"

namespace nodesnap::command {

void declare_prune(OptionSet& options);
PruneOptions prune_options(const Options& options);

// "removed 12 packs, 1.2 GiB; 34 packs, 4.5 GiB, are in use by 7 backups", in lines.
std::string prune_text(const PruneResult& result, bool dry_run);
void write_prune(JsonWriter& document, const PruneResult& result);  // members of an open object

}  // namespace nodesnap::command
