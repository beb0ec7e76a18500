#include "snapshot/backup/snapshot_hold.h"

#include <cstddef>
#include <utility>

#include "platform/error.h"
#include "snapshot/backup/other_writers.h"
#include "snapshot/hold/resolve.h"

namespace nodesnap {

void refuse_futile_hold(const hold::Options& options, const ExcludeRules& excludes) {
    const std::string name = hold::intent_name(options.mode, hold::key_of(options));
    if (hold::peek(options.state_directory, name)) {
        return;  // what another nodesnap holds now, or has left, isn't how the daemon is
    }
    refuse_other_writers(hold::resolve(options), excludes);
}

SnapshotHold::SnapshotHold(const hold::Options& options, const ExcludeRules& excludes)
    : node_directory_(options.node_directory), excludes_(excludes), hold_(std::make_unique<hold::Hold>(options)) {
    refuse_other_writers(hold_->intent(), excludes);
}

HeldSnapshot SnapshotHold::take(SnapshotBackend& backend, const std::string& name, Progress& progress, Report& report) {
    std::size_t told = 0;
    const auto tell = [&] {
        for (; told < hold_->warnings().size(); ++told) {
            report.warn(hold_->warnings()[told]);
        }
    };
    tell();
    backend.prepare();
    HeldSnapshot taken;
    taken.what = hold_->what();
    hold::Result result;
    {
        const Silence silence(progress);
        try {
            hold_and_create(backend, name, taken, result);
        } catch (...) {
            hold_.reset();  // lets go, before anybody clears up
            throw;
        }
    }
    tell();
    taken.downtime = hold_->already() ? std::chrono::nanoseconds(0) : result.downtime;
    look_afterwards(result, taken.doubt);
    if (!taken.doubt.empty() && !backend.atomic()) {
        taken.snapshot->remove();
        throw Error::failed("the snapshot shows no single instant, and was removed: " + taken.doubt, "run the backup again");
    }
    taken.snapshot->settle();
    if (taken.doubt.empty()) {
        return taken;
    }
    // Of a hook that leaves the daemon's files open for writing nothing else was to be expected.
    if (hold_->intent().mode != hold::Mode::kHook || !result.point_in_time) {
        report.warn("the backup is only crash-consistent, although " + taken.what + " was held: " + taken.doubt);
    }
    return taken;
}

void SnapshotHold::hold_and_create(SnapshotBackend& backend, const std::string& name, HeldSnapshot& taken, hold::Result& result) {
    hold_->hold();
    taken.doubt = look_while_held(backend.atomic());
    taken.snapshot = backend.create(name, true);
    result = hold_->release();
}

bool SnapshotHold::is_frozen() const {
    return hold_->intent().mode == hold::Mode::kFreeze && !hold_->intent().cgroup.empty();
}

// Who came to write while it was frozen has, as a rule, not ended yet.
void SnapshotHold::look_afterwards(const hold::Result& result, std::string& doubt) const {
    if (!result.point_in_time) {
        doubt = result.broken.empty() ? "it isn't known to have stood still" : result.broken;
    } else if (is_frozen()) {
        if (const auto writer = find_other_writer(node_directory_, excludes_, hold_->intent().cgroup)) {
            doubt = writer->text + (writer->seen ? ", and wasn't held" : "");
        }
    }
}

// What keeps the snapshot from being a point in time; throws where there is no use in taking it. Where nothing runs nobody may write. Where
// the daemon is frozen this would take longer than all else that it is frozen for: it is left to the look afterwards, where that will do.
std::string SnapshotHold::look_while_held(bool atomic) const {
    const hold::Intent& intent = hold_->intent();
    if (is_frozen() && atomic) {
        return "";
    }
    const auto writer = find_other_writer(node_directory_, excludes_, is_frozen() ? intent.cgroup : "");
    if (!writer) {
        return "";
    }
    if (!atomic || (writer->seen && intent.mode != hold::Mode::kHook)) {
        throw Error::failed(writer->text + (writer->seen ? " still, while " + intent.what + " is held" : ""),
                            "see what it belongs to (systemctl status PID): stopping " + intent.what + " must stop it, too");
    }
    return writer->text;
}

}  // namespace nodesnap
