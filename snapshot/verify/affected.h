// Which files of a backup need what is lost. Reads the whole tree of the backup, so it is done only when something is.
#pragma once

#include "snapshot/repository/repository.h"
#include "snapshot/verify/findings.h"

namespace nodesnap {

void find_affected_files(Repository& repository, const Manifest& manifest, Findings& findings);

}  // namespace nodesnap
