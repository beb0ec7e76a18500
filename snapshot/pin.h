// Pin: marks a backup as one that must be kept, which neither a policy nor a name removes, and takes the mark away again.
#pragma once

#include <cstddef>
#include <string>

#include "snapshot/repository/repository.h"

namespace nodesnap {

inline constexpr std::size_t kPinReasonLimit = 1024;  // bytes

struct PinResult {
    Manifest manifest;  // as it is now
    bool changed = false;
};
// A further reason is added to those that the backup is pinned for; an empty one only pins. `backup` is what find_backup() gave. Needs the
// lease; clears up after dead sessions first. Error::refused if the backup is damaged so that `repair` must go first, or if only a newer
// version may write it. Publishes the manifest's next revision, then removes the one before: killed at any instant, the backup is there.
PinResult pin_backup(Repository& repository, const Lease& lease, const Manifest& backup, const std::string& reason);
// Takes all pins away.
PinResult unpin_backup(Repository& repository, const Lease& lease, const Manifest& backup);

}  // namespace nodesnap
