// What a destination lies inside of.
#pragma once

#include "snapshot/report.h"
#include "snapshot/restore/place.h"

namespace nodesnap {

// Error::refused if the destination lies inside the repository. Warns if it lies inside the node directory that the repository's backups
// are of, since the next of them meets it there.
void look_around(const Repository& repository, const RestorePlace& place, Report& report);

}  // namespace nodesnap
