// How long a restore would take, from a sample: some of the data is read and verified, and as much is written to a file without a name at
// the destination.
#pragma once

#include <chrono>

#include "snapshot/restore/needs.h"
#include "snapshot/restore/place.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

std::chrono::nanoseconds estimate_restore(const Repository& repository, const Manifest& backup, const RestorePlace& place,
                                          const RestoreSelection& selection, const RestoreNeeds& needs, const RestoreOptions& options);

}  // namespace nodesnap
