// RestoreCheckpoint: from time to time makes durable what has been written and then says so in the state. On a thread of its own, so that
// the workers go on meanwhile.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "snapshot/restore/context.h"
#include "snapshot/restore/queue.h"

namespace nodesnap {

class RestoreCheckpoint {
public:
    // `root` is any descriptor on the file system. A failure aborts the queue.
    RestoreCheckpoint(RestoreContext& context, RestoreQueue& queue, RestoreState state, std::string state_path, FileDescriptor root,
                      std::chrono::milliseconds interval);
    RestoreCheckpoint(const RestoreCheckpoint&) = delete;
    RestoreCheckpoint& operator=(const RestoreCheckpoint&) = delete;
    ~RestoreCheckpoint() { stop(); }
    void stop();

    // The next two by the caller's thread, after stop().
    void take(RestoreState::Phase phase = RestoreState::Phase::kWriting);
    const RestoreState& state() const { return state_; }  // as it was stored last

private:
    void run();

    RestoreContext& context_;
    RestoreQueue& queue_;
    RestoreState state_;
    std::string state_path_;
    FileDescriptor root_;
    std::chrono::milliseconds interval_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace nodesnap
