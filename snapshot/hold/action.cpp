#include "snapshot/hold/action.h"

#include <utility>

#include "platform/error.h"

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

Action::Action(const Intent& intent, Surroundings surroundings)
    : intent_(intent),
      surroundings_(std::move(surroundings)),
      touched_(intent.phase == Phase::kBegun || (intent.phase == Phase::kPrepared && intent.mode == Mode::kFreeze)) {}

void Action::touching() {
    if (intent_.mode != Mode::kFreeze && surroundings_.begin) {
        intent_.phase = Phase::kBegun;
        surroundings_.begin(intent_);
    }
    touched_ = true;
}

void Action::mount_back(Reason reason, const WhileWaiting& waiting) const {
    if (!intent_.mount_back) {
        return;
    }
    ProgramRun mount;
    mount.arguments = {"/proc/self/exe",
                       kMountBack,
                       name_of(reason),
                       intent_.node_directory,
                       std::to_string(intent_.pid),
                       std::to_string(intent_.process_start)};
    mount.time_limit = command_limit();
    mount.while_waiting = waiting;
    const ProgramResult result = run(mount);
    if (!result.succeeded()) {
        throw Error::failed(
            "nothing may be started on " + intent_.node_directory + ", whose volume can't be mounted: " + result.explanation(),
            "nodesnap snapshot list ends the rollback that has unmounted it, or says why that isn't possible");
    }
}

std::unique_ptr<Action> Action::of(const Intent& intent, const Surroundings& surroundings) {
    if (intent.mode == Mode::kFreeze && !intent.cgroup.empty()) {
        return make_freeze(intent, surroundings);
    }
    // A unit that didn't run had no cgroup to freeze; as one that is stopped it is only watched.
    return intent.unit.empty() ? make_commands(intent, surroundings) : make_unit_stop(intent, surroundings);
}

std::vector<std::string> Action::environment(const char* hold_or_release, const char* reason) const {
    return {std::string("NODESNAP_HOLD=") + hold_or_release, std::string("NODESNAP_REASON=") + reason,
            "NODESNAP_NODE_DIRECTORY=" + intent_.node_directory, "NODESNAP_HOLD_ID=" + intent_.id};
}

}  // namespace nodesnap::hold
