// What this host remembers of its part in a cluster restore, so that a second run knows what the first has put in place, and goes on.
//
// Errors: nodesnap::Error. Threads: one at a time. Privileges: those of a restore.
#pragma once

#include <string>

#include "snapshot/cluster/link.h"

namespace nodesnap::cluster {

struct RestorePart {
    std::string cut;     // id of the cluster backup
    std::string backup;  // of this node's
    std::string directory;
    std::string state_directory;
};

// Durably, before anything of it is written.
void note_restore_begun(const RestorePart& part);
// After it is in place: which directory that is.
void note_restored(const RestorePart& part);
// When all nodes' are: from then on what is there is a node like any other.
void forget_restore(const RestorePart& part);

// How the directory is: "virgin" (not there, or empty, and unused), "restored" (it is what note_restored() was told of), "begun" (something
// is there, and a restore of that part was begun), or "occupied", with why.
Json look_at_place(const RestorePart& part);

}  // namespace nodesnap::cluster
