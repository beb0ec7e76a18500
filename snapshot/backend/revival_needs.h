// What a tree that is made of a snapshot's (Revival) needs of its own: looked at before it is made, so that want of space is known while
// nothing was touched. Errors are nodesnap::Error. One thread; as long as there are files.
#pragma once

#include <cstdint>

#include "snapshot/backend/link_index.h"
#include "snapshot/backend/revival.h"
#include "snapshot/exclude.h"

namespace nodesnap {

struct RevivalSource {
    int tree = -1;  // descriptor of its root
    Origins origins = Origins::kRecorded;
    bool copies = false;            // as LinkRevival does
    const LinkIndex* own;           // likewise
    const LinkIndexes* all;         // likewise
    const ExcludeRules* immutable;  // likewise
};

// About how much space. Error::refused if a link isn't what it was.
std::uint64_t bytes_needed(const RevivalSource& source);

}  // namespace nodesnap
