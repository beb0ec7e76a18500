// What is said where a restore ended before it was complete: what it leaves behind, and how it goes on.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "platform/error.h"
#include "snapshot/repository/repository.h"
#include "snapshot/restore/lost.h"
#include "snapshot/restore/place.h"

namespace nodesnap {

// The error that ended it, with that as its hint. One that is no damage, since the backup was forgotten meanwhile, says so.
Error unfinished_restore(const Error& error, const Repository& repository, const Manifest& backup, const RestorePlace& place,
                         const std::vector<std::string>& gate_files, const RestoreLost& lost);
// If `error` tells of damage, but the backup isn't there any more in any revision: that it was forgotten while it was read, with the status
// of a backup that isn't there. Where nothing was begun yet; unfinished_restore() sees to the rest.
std::optional<Error> forgotten_meanwhile(const Error& error, const Repository& repository, const Manifest& backup);

}  // namespace nodesnap
