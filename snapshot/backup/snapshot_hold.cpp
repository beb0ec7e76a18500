#include "snapshot/backup/snapshot_hold.h"

#include <future>
#include <optional>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "snapshot/backup/other_writers.h"
#include "snapshot/hold/resolve.h"

namespace nodesnap {
namespace {

bool is_frozen(const hold::Intent& intent) {
    return intent.mode == hold::Mode::kFreeze && !intent.cgroup.empty();
}

// What keeps the snapshot from being a point in time; throws where there is no use in taking it. Where nothing runs nobody may write. Where
// the daemon is frozen this would take longer than all else that it is frozen for: it is left to the look afterwards, where that will do.
std::string look_while_held(const hold::Intent& intent, const ExcludeRules& excludes, bool atomic) {
    if (is_frozen(intent) && atomic) {
        return "";
    }
    const auto writer = find_other_writer(intent.node_directory, excludes, is_frozen(intent) ? intent.cgroup : "");
    if (!writer) {
        return "";
    }
    if (!atomic || (writer->seen && intent.mode != hold::Mode::kHook)) {
        throw Error::failed(
            writer->text + (writer->seen ? " still, while " + intent.what + " is held" : ""),
            intent.mode == hold::Mode::kHook
                ? "where files are cloned, linked or read themselves the hooks must end who has them open, as --hold stop does; without "
                  "a hold, --accept-inconsistent backs them up as they are"
                : "see what it belongs to (systemctl status PID): stopping " + intent.what + " must stop it, too");
    }
    return writer->text;
}

}  // namespace

void refuse_futile_hold(const hold::Options& options, const ExcludeRules& excludes) {
    const std::string name = hold::intent_name(options.mode, hold::key_of(options));
    if (hold::peek(options.state_directory, name)) {
        return;  // what another nodesnap holds now, or has left, isn't how the daemon is
    }
    refuse_other_writers(hold::resolve(options), excludes);
}

SnapshotHold::SnapshotHold(const hold::Options& options, const ExcludeRules& excludes)
    : node_directory_(options.node_directory),
      excludes_(excludes),
      max_downtime_(options.max_downtime),
      hold_(std::make_unique<hold::Hold>(options)) {
    refuse_other_writers(hold_->intent(), excludes);
}

void SnapshotHold::tell_warnings(Report& report) {
    for (; told_ < hold_->warnings().size(); ++told_) {
        report.warn(hold_->warnings()[told_]);
    }
}

void SnapshotHold::let_go_now() noexcept {
    const std::scoped_lock lock(mutex_);
    if (hold_) {
        hold_->let_go_now();
    }
}

void SnapshotHold::end_hold() {
    std::unique_ptr<hold::Hold> ending;
    {
        const std::scoped_lock lock(mutex_);
        ending = std::move(hold_);
    }
    // Its destructor lets go, which may take a while.
}

Held SnapshotHold::around(bool atomic, Progress& progress, Report& report, const Work& work) {
    tell_warnings(report);
    Held held;
    held.what = hold_->what();
    std::optional<Silence> silence(std::in_place, progress);
    std::future<std::string> look;
    const auto wait_for_look = [&] {
        if (look.valid()) {
            held.doubt = look.get();
        }
    };
    const auto release = [&] {
        wait_for_look();
        const hold::Result result = hold_->release();
        silence.reset();
        tell_warnings(report);
        held.downtime = hold_->already() ? std::chrono::nanoseconds(0) : result.downtime;
        look_afterwards(result, held.doubt);
        // Of a hook that leaves the daemon's files open for writing nothing else was to be expected.
        if (atomic && !held.doubt.empty() && (hold_->intent().mode != hold::Mode::kHook || !result.point_in_time)) {
            report.warn("the backup is only crash-consistent, although " + held.what + " was held: " + held.doubt);
        }
        return held;
    };
    const std::int64_t asked_ns = monotonic_ns();
    try {
        hold_->hold();
        const std::int64_t since_ns = monotonic_ns();
        held.since_ns = utc_now_ns();
        // Beside what it is held for. It has an intent of its own, since after a failure the daemon is let go before it has ended.
        look =
            std::async(std::launch::async, [this, atomic, intent = hold_->intent()] { return look_while_held(intent, excludes_, atomic); });
        work({since_ns, wait_for_look, release});
    } catch (const Error& error) {
        const bool over = monotonic_ns() - asked_ns >= max_downtime_.count();
        end_hold();  // lets go, before anybody clears up
        if (over && error.message().find("--max-downtime") == std::string::npos) {
            // As a rule what failed did so because the daemon ran again.
            throw Error(error.status(), error.message() + "; it wasn't done in the time that the daemon may be held (--max-downtime)",
                        "allow a longer --max-downtime, or find out what takes so long", error.error_number());
        }
        throw;
    } catch (...) {
        end_hold();
        throw;
    }
    return held;
}

HeldSnapshot SnapshotHold::take(SnapshotBackend& backend, const std::string& name, Progress& progress, Report& report, const Steps& steps) {
    HeldSnapshot taken;
    static_cast<Held&>(taken) = around(backend.atomic(), progress, report, [&](const Standstill& standstill) {
        if (steps.held) {
            steps.held();
        }
        const std::int64_t begun_ns = monotonic_ns();
        taken.snapshot = backend.create(name, true);
        if (steps.snapped) {
            const std::int64_t ended_ns = monotonic_ns();
            standstill.look();
            steps.snapped(begun_ns, ended_ns);
        }
        standstill.release();
    });
    if (!taken.doubt.empty() && !backend.atomic()) {
        taken.snapshot->remove();
        throw Error::failed("the snapshot shows no single instant, and was removed: " + taken.doubt, "run the backup again");
    }
    taken.snapshot->settle();
    return taken;
}

// Who came to write while it was frozen has, as a rule, not ended yet.
void SnapshotHold::look_afterwards(const hold::Result& result, std::string& doubt) const {
    if (!result.point_in_time) {
        doubt = result.broken.empty() ? "it isn't known to have stood still" : result.broken;
    } else if (is_frozen(hold_->intent())) {
        if (const auto writer = find_other_writer(node_directory_, excludes_, hold_->intent().cgroup)) {
            doubt = writer->text + (writer->seen ? ", and wasn't held" : "");
        }
    }
}

}  // namespace nodesnap
