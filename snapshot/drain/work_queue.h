// WorkQueue: what is left to drain, from the walk that finds it to the workers that read it. Thread-safe, bounded.
//
// Batches of directory entries are pushed by the walk, which waits while the queue is full. Large files are pushed by workers, are taken
// before batches, and go back to the front until all their ranges are handed out, so that all workers share one large file. A small backup
// stays with the first worker, so that it makes one pack: the others are let in when there is enough to share.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "snapshot/drain/source_directory.h"

namespace nodesnap {

class LargeFile;

struct WorkItem {
    std::shared_ptr<LargeFile> file;  // either this
    std::unique_ptr<Batch> batch;     // or this
    explicit operator bool() const { return file || batch; }
};

class WorkQueue {
public:
    static constexpr std::size_t kBatchLimit = 64;  // batches waiting
    static constexpr std::size_t kManyFiles = 32;
    static constexpr std::uint64_t kEntriesToShare = 512;  // entries found before the next worker is let in
    static constexpr std::uint64_t kBytesToShare = 64ULL << 20;

    void push(std::unique_ptr<Batch> batch);        // waits while the queue is full
    void push_front(std::unique_ptr<Batch> batch);  // one that was popped and isn't wanted now
    void push(std::shared_ptr<LargeFile> file, std::uint64_t bytes);
    // A popped file has more ranges, or (nullptr) has none left.
    void put_back(std::shared_ptr<LargeFile> file);
    // The walk is over: pop() gives nothing once the queue is empty and no worker holds a batch that could bring large files.
    void close();
    void abort();  // after a failure: everything waiting returns, with nothing
    bool aborted() const;

    // An empty item: there is nothing (yet, if !wait).
    WorkItem pop(unsigned worker, bool wait);
    // So many files are waiting, each with an open descriptor, that they should be taken before more are opened.
    bool many_files() const;
    // The worker is done with the batch it popped; large files that it held were pushed before.
    void batch_done();

private:
    bool admitted(unsigned worker) const;
    bool finished() const;

    mutable std::mutex mutex_;
    std::condition_variable work_;
    std::condition_variable room_;
    std::deque<std::unique_ptr<Batch>> batches_;
    std::deque<std::shared_ptr<LargeFile>> files_;
    std::uint64_t entries_seen_ = 0;
    std::uint64_t bytes_seen_ = 0;
    unsigned held_ = 0;  // batches and files that a worker has popped, and which may bring more
    bool closed_ = false;
    bool aborted_ = false;
};

}  // namespace nodesnap
