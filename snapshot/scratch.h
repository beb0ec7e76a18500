// Where what doesn't fit in memory goes.
#pragma once

#include <string>

namespace nodesnap {

// `chosen` (--scratch-dir), or if that is empty $TMPDIR, or /var/tmp.
std::string scratch_directory_or_default(const std::string& chosen = "");

}  // namespace nodesnap
