// Runs a command in a process between the guard and it, so that the guard's death isn't the end of what is known of the command.
//
// The process that is between waits for the command's end, and keeps to its limits, whatever becomes of the guard. It shares the guard's
// descriptors, which the command itself doesn't get: as long as it lives the intent stays locked, and the guard's end of the socket open,
// so that neither nodesnap nor a `nodesnap release` undoes beside a stop that is under way. It also takes back what the guard has taken for
// itself (priority, protection from the OOM killer), which a daemon that the command starts would inherit.
//
// Errors: as run_program; one that is killed is a result with its signal. Threads: the process has one only. Privileges: none of its own.
#pragma once

#include "platform/program_run.h"

namespace nodesnap::hold {

ProgramResult run_beside_guard(const ProgramRun& run);

}  // namespace nodesnap::hold
