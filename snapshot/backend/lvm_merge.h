// LvmMerge: a classic snapshot that is merged into the volume that a node directory lies on, while another snapshot keeps what was there.
// The volume is nowhere mounted meanwhile. See docs/design.md, "Rolling back a classic volume".
//
// Each call brings about what it says from whichever state a call that was cut off has left, and is durable when it returns. To be called
// with the lock of the rollback's record (lvm::KeptOpen). Errors: Error::failed. One thread. Needs root.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "platform/lvm.h"
#include "snapshot/backend/noted_volumes.h"

namespace nodesnap {

class LvmMerge : public NotedVolumes {
public:
    using NotedVolumes::NotedVolumes;

    // From kMerging on the volume shows what the snapshot was.
    enum class Stage { kNotBegun, kMerging, kMerged };
    Stage stage() const;

    lvm::Volume volume() const { return need(note().replaced); }  // as it is now
    // Waits until nobody has the volume or the snapshot open, such as look at each new device.
    void wait_until_closed() const;
    // The snapshot that keeps the present.
    void keep_present() const;
    // It goes again, as long as nothing has been merged.
    void take_back() const;
    // Returns when the merge is under way, or has ended. If it throws while stage() isn't kNotBegun, LVM has put it off: then nothing may
    // be mounted before that has begun.
    void begin() const;
    void require_under_way() const;
    // Until all is copied. Asks, with the bytes that are left, whether to go on, each time; false if not.
    bool wait(const std::function<bool(std::uint64_t)>& go_on) const;
    // Makes the snapshot anew, when all is copied, if nothing has been written to the volume since. Otherwise says why it isn't there any
    // more; empty if it is. It never fails.
    std::string renew() const noexcept;
    // Why what was there isn't kept; empty if it is.
    std::string flaw_of_kept() const;
    // Mounts the volume where it was, if nothing is: which it can show only one thing from then on. Waits for no merge.
    FileDescriptor mount_back() const;

private:
    std::string try_to_renew() const;
    bool is_unwritten() const;
};

// Ends a rollback that was cut off, and waits for the merge where the volume isn't mounted. Says what the directory is now, as a sentence.
std::string finish_merge(LvmRollbackRecord& record);

}  // namespace nodesnap
