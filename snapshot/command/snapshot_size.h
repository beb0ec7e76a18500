// --snapshot-size, of commands that take snapshots.
#pragma once

#include <cstdint>

#include "snapshot/command/options.h"

namespace nodesnap::command {

void declare_snapshot_size(OptionSet& options);
std::uint64_t snapshot_size(const Options& options);  // bytes; 0: not given

}  // namespace nodesnap::command
