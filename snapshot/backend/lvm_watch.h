// LvmWatch: looks every second whether a snapshot of a logical volume still has room, in a thread of its own, until it is destroyed.
//
// A classic snapshot keeps what is overwritten of its volume in a room of its own. When that is full, the snapshot becomes invalid, for
// good: whatever isn't in memory yet can't be read of it any more. The volume itself takes no harm. A thin one shares its pool with its
// volume: when that is full, it is the volume that can't be written to any more.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "platform/lvm.h"

namespace nodesnap {

class LvmWatch {
public:
    // Tells why nothing more is to be read, as the end of a sentence that begins with the snapshot; empty if all can.
    using Look = std::function<std::string()>;

    // `shown`: the snapshot, `remedy`: against what may be the matter.
    LvmWatch(Look look, std::string shown, std::string remedy);
    LvmWatch(const LvmWatch&) = delete;
    LvmWatch& operator=(const LvmWatch&) = delete;
    ~LvmWatch();

    // Error::failed if nothing more is to be read. Tells what is known by now, or, with `now`, looks first: what was read before that is
    // right if this returns. Any thread.
    void check(bool now);

private:
    void run();
    void look();

    const Look look_;
    const std::string shown_;
    const std::string remedy_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ends_ = false;
    std::string flaw_;
    std::thread thread_;
};

}  // namespace nodesnap
