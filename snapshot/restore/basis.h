// RestoreBasis: what is there already of the files that a delta restore makes, so that only what differs is written.
#pragma once

#include "snapshot/repository/manifest.h"

namespace nodesnap {

struct RestoreBasis {
    enum class Kind {
        kClone,     // files are made anew, and get by reference what the old directory holds under their path; compared by checksums
        kInPlace,   // the files themselves are there; compared by checksums
        kSnapshot,  // the files are there, and hold what another backup says: its map tells the differences
    };
    Kind kind = Kind::kClone;
    int old_root = -1;                 // kClone: the old directory
    const Manifest* before = nullptr;  // kSnapshot: that backup
};

// kSnapshot: files are restored under names of their own, by number, in a directory of their own, and get their names later. A file that is
// there already is told from a new one by the name's first letter.
inline constexpr char kHeldLetter = 'c';
inline constexpr char kNewLetter = 'n';

}  // namespace nodesnap
