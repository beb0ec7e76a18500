// Whether a restore fits where it goes.
#pragma once

#include "snapshot/restore/needs.h"
#include "snapshot/restore/place.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

// Error::refused if `needs` doesn't fit. What an interrupted restore has staged counts as there, finished or not: it is kept, or replaced.
void require_space(const Repository& repository, const Manifest& backup, const RestoreSelection& selection, const RestorePlace& place,
                   const RestoreNeeds& needs);

}  // namespace nodesnap
