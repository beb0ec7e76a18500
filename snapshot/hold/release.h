// Undoing holds that were left behind: nodesnap and its guard were both killed, or the host was started anew.
//
// Errors: nodesnap::Error where said. Threads: any. Privileges: as the hold needed; see action.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/hold/intent.h"

namespace nodesnap::hold {

struct Left {
    enum class State {
        kReleased,  // it runs as before
        kNothing,   // the intent was all that was left: nothing had been held, or it ended with an earlier boot
        kHeld,      // by a nodesnap, or its guard, that lives
        kFailed,    // it may still be held; the intent stays
    };
    std::string name;  // of the intent
    std::string what;  // "unit qdbd.service"
    std::int64_t pid = 0;
    std::optional<Intent> intent;  // as it was found, as far as it could be read
    State state = State::kNothing;
    std::string error;
    std::string hint;
};

// Undoes all holds that nobody cares for any more. A guard that is stopped is sent on its way. `wait_ns`: how long to wait for one that
// lives. Throws only where the state directory can't be read.
std::vector<Left> undo_left(const std::string& state_directory, std::int64_t wait_ns);
// And removes the empty cgroups that guards have left.
std::vector<Left> release_left(const std::string& state_directory, std::int64_t wait_ns);

// Error::refused, with the remedy, while `directory`, or what lies in or around it, is the node directory of a hold, of whomever: what was
// stopped is started by its guard, whoever writes there then. Nothing is said of a directory that isn't there, or of holds that this user
// may not see.
void refuse_held(const std::string& state_directory, const std::string& directory);

// Undoes one hold, as far as the file says that it was begun, and removes its intent, whose lock the caller has. Throws if it may still be
// held. nullopt if there was nothing to undo.
std::optional<Intent> undo(IntentFile& file);
// Removes the intent of what was let go; where that fails, what stays says so. Throws if neither could be done.
void retire(IntentFile& file, Intent intent);

}  // namespace nodesnap::hold
