// What changed between two backups, as `diff` and `show --changes` tell it: a line for each path, then the totals.
#pragma once

#include "snapshot/command/command.h"
#include "snapshot/diff.h"

namespace nodesnap::command {

// `lines`: false for the totals alone. kDamaged where not all could be compared.
ExitStatus tell_changes(Call& call, const Repository& repository, const Manifest& before, const Manifest& after, const DiffOptions& options,
                        bool lines);

}  // namespace nodesnap::command
