// JobThreads: runs what blocks, each on a thread of its own, made when none is idle. At most kJobs are waiting or running.
//
// post() from any thread. The destructor drops what hasn't begun, and waits for the rest. Jobs don't throw.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace nodesnap::remote {

class JobThreads {
public:
    static constexpr std::size_t kJobs = 64;

    JobThreads() = default;
    JobThreads(const JobThreads&) = delete;
    JobThreads& operator=(const JobThreads&) = delete;
    ~JobThreads();
    bool post(std::function<void()> job);  // false if there are too many

private:
    void run();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> waiting_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    std::size_t running_ = 0;
    bool ending_ = false;
};

}  // namespace nodesnap::remote
