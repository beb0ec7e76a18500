// BackupGates: where a backup stops that is taken together with others, until it is told to go on. A plain backup passes them without
// waiting. See docs/design.md, "A cluster at one moment".
//
// Each is called on the backup's own thread, once, in this order; what it throws ends the backup, which then takes back what it has begun.
// A backup that goes on with one that was cut off comes by kAsked and kStored only.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "snapshot/repository/cut_part.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// What the others must know of a backup that is ready to hold its daemon.
struct ArmedBackup {
    SessionId id;
    std::string backend;
    bool atomic = false;                  // the snapshot is of one instant, also of a daemon that isn't held
    std::string held;                     // what will be; "" if nothing is
    bool stops = false;                   // the daemon is stopped for it, or hooks are run, which may take long
    bool provable = false;                // that what is held stands still
    std::int64_t limit_ns = 0;            // how long it may be held at most; 0 if it isn't
    std::uint64_t device = 0, inode = 0;  // of the node directory
};

class BackupGates {
public:
    BackupGates() = default;
    virtual ~BackupGates() = default;
    BackupGates(const BackupGates&) = delete;
    BackupGates& operator=(const BackupGates&) = delete;

    // The lease is taken, and all that can be refused was looked at; nothing was changed.
    virtual void asked(Repository& repository, const Lease& lease) = 0;
    // Waits for the word to hold. `keep_ready` flushes, so that a snapshot has little to do; `let_go` lets the daemon go, from any thread,
    // until disarmed() is called. The part that this backup is of the cut, so far as it is known.
    virtual CutPart armed(const ArmedBackup& backup, const std::function<void()>& keep_ready, std::function<void()> let_go) = 0;
    virtual void disarmed() noexcept = 0;
    // The daemon stands still: waits for the word to take the snapshot.
    virtual void held() = 0;
    // The snapshot is there, taken between these instants of the monotonic clock: waits for the word to let go. False if it won't come:
    // then the daemon is let go without it. What is known of the part by then is put into `part`.
    virtual bool snapped(std::int64_t begun_ns, std::int64_t ended_ns, CutPart& part) = 0;
    // What was taken is noted, durably: waits for the word to drain it.
    virtual void stored(const CutPart& part, std::int64_t downtime_ns, const std::string& doubt) = 0;
    // The backup has failed, after asked(): before what it has begun is taken back, or kept to be gone on with.
    virtual void failing() noexcept = 0;
};

}  // namespace nodesnap
