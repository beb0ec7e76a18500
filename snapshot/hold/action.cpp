#include "snapshot/hold/action.h"

namespace nodesnap::hold {

const char* name_of(Reason reason) noexcept {
    switch (reason) {
        case Reason::kDone:
            return "done";
        case Reason::kFailed:
            return "failed";
        case Reason::kKilled:
            return "killed";
        case Reason::kMaxDowntime:
            return "max-downtime";
        default:
            return "left-behind";
    }
}

std::unique_ptr<Action> Action::of(const Intent& intent) {
    if (intent.mode == Mode::kFreeze && !intent.cgroup.empty()) {
        return make_freeze(intent);
    }
    // A unit that didn't run had no cgroup to freeze; as one that is stopped it is only watched.
    return intent.unit.empty() ? make_commands(intent) : make_unit_stop(intent);
}

std::vector<std::string> Action::environment(const char* hold_or_release, const char* reason) const {
    return {std::string("NODESNAP_HOLD=") + hold_or_release, std::string("NODESNAP_REASON=") + reason,
            "NODESNAP_NODE_DIRECTORY=" + intent_.node_directory, "NODESNAP_HOLD_ID=" + intent_.id};
}

}  // namespace nodesnap::hold
