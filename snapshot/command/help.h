// The help texts: `nodesnap help`, `nodesnap help COMMAND`, `nodesnap COMMAND --help`.
#pragma once

#include <ostream>

#include "snapshot/command/command.h"

namespace nodesnap::command {

void print_overview(std::ostream& out);
void print_help(std::ostream& out, const Command& command);

}  // namespace nodesnap::command
