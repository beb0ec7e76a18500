// The options that say what is held while a snapshot is taken, and how. Error::usage, with the remedy, for those that don't go together.
#pragma once

#include "snapshot/command/options.h"
#include "snapshot/hold/options.h"

namespace nodesnap::command {

void declare_hold(OptionSet& options);
void declare_stop_commands(OptionSet& options);  // those of them that say how a daemon without a unit is stopped, and within what times
// Of those that are declared; without node_directory and state_directory.
hold::Options hold_options(const Options& options);

}  // namespace nodesnap::command
