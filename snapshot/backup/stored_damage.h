// What is known of damage in the data that a backup takes over from earlier ones, without reading any of it.
#pragma once

#include <cstddef>

#include "snapshot/repository/repository.h"

namespace nodesnap {

// How many data packs `verify` has found damaged, as they still are, of `parent` or of what that builds on, back to a backup that builds on
// nothing. Where a backup on the way there was forgotten, all damaged packs count. Records that can't be read tell nothing.
std::size_t damaged_packs_below(const Repository& repository, const Manifest& parent);

}  // namespace nodesnap
