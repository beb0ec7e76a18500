// From what the operator has said to what is to be held, exactly: which cgroup, which unit, in which state now.
//
// Errors: Error::usage for options that don't go together, Error::refused for what may not be held. Threads: any. Privileges: to ask
// systemctl, none as a rule; a status command as it needs.
#pragma once

#include "snapshot/hold/intent.h"
#include "snapshot/hold/options.h"

namespace nodesnap::hold {

// What is held, by name, whatever its state: the intent's file is named after it, so that two that hold the same meet. Checks the options.
std::string key_of(const Options& options);
// All of the intent, with the state as it is now. Nothing is changed. Not for Mode::kNone.
Intent resolve(const Options& options);

}  // namespace nodesnap::hold
