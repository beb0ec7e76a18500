#include "io/remote/job_threads.h"

#include <utility>

namespace nodesnap::remote {

JobThreads::~JobThreads() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
        waiting_.clear();
        changed_.notify_all();
    }
    for (std::thread& thread : threads_) {
        thread.join();
    }
}

bool JobThreads::post(std::function<void()> job) {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() + running_ >= kJobs) {
        return false;
    }
    waiting_.push_back(std::move(job));
    if (waiting_.size() > idle_) {
        threads_.emplace_back([this] { run(); });
        ++idle_;
    }
    changed_.notify_one();
    return true;
}

void JobThreads::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
        if (waiting_.empty()) {
            return;
        }
        const auto job = std::move(waiting_.front());
        waiting_.pop_front();
        --idle_;
        ++running_;
        lock.unlock();
        job();
        lock.lock();
        --running_;
        ++idle_;
    }
}

}  // namespace nodesnap::remote
