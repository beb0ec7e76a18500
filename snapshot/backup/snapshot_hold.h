// SnapshotHold: keeps what writes to the node directory from writing while one snapshot is taken, or all is read that one would show, and
// says what came of it.
//
//     SnapshotHold held(options, node_directory, excludes);     // refuses, or is ready
//     const HeldSnapshot taken = held.take(backend, name, progress, report);
//
//     const Held held = hold.around(false, progress, report, [](const auto& release, auto) { ...; release(); ... });
//
// That a daemon stands still proves nothing while something else writes to its directory. So this looks through all processes for who has
// files open for writing there, too. See docs/design.md, "Holding the daemon, and the guard".
//
// Errors: Error::refused before anything is held, Error::failed afterwards; whatever is thrown, the daemon was let go first, or the message
// says that it may still be held. Threads: one at a time. Privileges: root, as a rule; see hold/hold.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "io/progress.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backup/gates.h"
#include "snapshot/exclude.h"
#include "snapshot/hold/hold.h"
#include "snapshot/report.h"

namespace nodesnap {

struct Held {
    std::string what;                      // was held: "unit qdbd.service"
    std::int64_t since_ns = 0;             // UTC
    std::chrono::nanoseconds downtime{0};  // 0 if it stood still already
    std::string doubt;                     // why what was done meanwhile is of no single instant; "" only if it is proved to be
};

struct HeldSnapshot : Held {
    std::unique_ptr<Snapshot> snapshot;
};

class SnapshotHold {
public:
    // `options` says more than to hold nothing. `excludes` must outlive it.
    SnapshotHold(const hold::Options& options, const ExcludeRules& excludes);

    const hold::Intent& intent() const { return hold_->intent(); }
    // Lets all run again, whatever another thread is about. While this object is there; any thread.
    void let_go_now() noexcept;

    // What is called while all is held.
    struct Steps {
        std::function<void()> held;                                                 // before the snapshot is taken
        std::function<void(std::int64_t begun_ns, std::int64_t ended_ns)> snapped;  // when it is there; monotonic clock
    };
    // The backend is prepared. What is to be told of it goes to `report` when all runs again.
    HeldSnapshot take(SnapshotBackend& backend, const std::string& name, Progress& progress, Report& report, const Steps& steps);

    // Does `work` while all is held. Its release, which it calls once, on any thread, lets all run again, and tells the verdict; look waits
    // for what of that takes long, and may be called before. `atomic`: what is done meanwhile is of one instant also when nobody was kept
    // from writing; then a doubt is told to `report`, too.
    struct Standstill {
        std::int64_t since_ns;  // by the monotonic clock
        std::function<void()> look;
        std::function<Held()> release;
    };
    using Work = std::function<void(const Standstill& standstill)>;
    Held around(bool atomic, Progress& progress, Report& report, const Work& work);

private:
    void tell_warnings(Report& report);
    void look_afterwards(const hold::Result& result, std::string& doubt) const;

    std::string node_directory_;
    const ExcludeRules& excludes_;
    std::chrono::nanoseconds max_downtime_;
    void end_hold();

    std::mutex mutex_;  // let_go_now()
    std::unique_ptr<hold::Hold> hold_;
    std::size_t told_ = 0;  // of its warnings
};

// All that SnapshotHold refuses as far as it can be seen without making anything: so that nothing was touched then. Not of what another
// nodesnap has left behind held, which isn't seen through.
void refuse_futile_hold(const hold::Options& options, const ExcludeRules& excludes);

}  // namespace nodesnap
