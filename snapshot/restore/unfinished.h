// What is said where a restore ended before it was complete: what it leaves behind, and how it goes on.
#pragma once

#include <string>
#include <vector>

#include "platform/error.h"
#include "snapshot/restore/lost.h"
#include "snapshot/restore/place.h"

namespace nodesnap {

// The error that ended it, with that as its hint.
Error unfinished_restore(const Error& error, const RestorePlace& place, const std::vector<std::string>& gate_files,
                         const RestoreLost& lost);

}  // namespace nodesnap
