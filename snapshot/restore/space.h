// Whether a restore fits where it goes.
#pragma once

#include "snapshot/restore/needs.h"
#include "snapshot/restore/place.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

// Error::refused if `needs` doesn't fit. What an interrupted restore has staged counts as there, finished or not: it is kept, or replaced.
void require_space(const Repository& repository, const Manifest& backup, const RestoreSelection& selection, const RestorePlace& place,
                   const RestoreNeeds& needs);

// Of a delta restore in a clone, as soon as it is known how many bytes are still to be written.
void require_space_of_clone(const RestorePlace& place, std::uint64_t bytes);

}  // namespace nodesnap
