// RestoreQueue: what is left to restore, from the walk that finds it to the workers that write it. Thread-safe, bounded.
//
// Batches are pushed by the walk, which waits while the queue is full. A worker that takes one sorts it into slices of small files and
// large files, which are taken before further batches, by all workers.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "snapshot/restore/large.h"

namespace nodesnap {

// Small files that are read together.
struct RestoreSlice {
    std::shared_ptr<RestoreBatch> batch;
    std::vector<std::unique_ptr<RestoreFile>> files;
};

struct RestoreWork {
    std::shared_ptr<RestoreLarge> large;  // with a window
    RestoreWindow window;
    std::unique_ptr<RestoreSlice> slice;
    std::shared_ptr<RestoreBatch> batch;
    explicit operator bool() const { return large || slice || batch; }
};

class RestoreQueue {
public:
    explicit RestoreQueue(std::size_t batch_limit) : batch_limit_(batch_limit) {}

    // Waits while the queue is full. Throws when the operator interrupts; returns false after abort().
    bool push(std::shared_ptr<RestoreBatch> batch);
    void close();  // no more batches

    void push(std::unique_ptr<RestoreSlice> slice);
    void push(std::shared_ptr<RestoreLarge> large);
    void batch_sorted();  // answers a batch that was taken

    // Empty: there is nothing, ever (or yet, if !wait).
    RestoreWork next(bool wait);

    // The first failure counts. Everything waiting returns, with nothing.
    void abort(std::exception_ptr failure);
    bool aborted() const;
    void rethrow() const;  // what it was aborted with, if it was

private:
    static constexpr std::size_t kLargeLimit = 512;  // large files that wait before no further batches are sorted

    std::optional<RestoreWork> take(std::unique_lock<std::mutex>& lock);
    std::optional<RestoreWork> take_large(std::unique_lock<std::mutex>& lock);
    std::optional<RestoreWork> take_small();
    bool finished() const;

    const std::size_t batch_limit_;
    mutable std::mutex mutex_;
    std::condition_variable work_;
    std::condition_variable room_;
    std::deque<std::shared_ptr<RestoreBatch>> batches_;
    std::deque<std::unique_ptr<RestoreSlice>> slices_;
    std::deque<std::shared_ptr<RestoreLarge>> large_;
    std::size_t sorting_ = 0;
    bool small_next_ = false;
    bool closed_ = false;
    bool aborted_ = false;
    std::exception_ptr failure_;
};

}  // namespace nodesnap
