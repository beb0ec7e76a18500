#include "snapshot/drain/work_queue.h"

namespace nodesnap {

void WorkQueue::push(std::unique_ptr<Batch> batch) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return batches_.size() < kBatchLimit || aborted_; });
    entries_seen_ += batch->entries.size();
    batches_.push_back(std::move(batch));
    lock.unlock();
    work_.notify_all();
}

void WorkQueue::push(std::shared_ptr<LargeFile> file, std::uint64_t bytes) {
    {
        const std::lock_guard lock(mutex_);
        bytes_seen_ += bytes;
        files_.push_back(std::move(file));
    }
    work_.notify_all();
}

void WorkQueue::push_front(std::unique_ptr<Batch> batch) {
    {
        const std::lock_guard lock(mutex_);
        --held_;
        batches_.push_front(std::move(batch));
    }
    work_.notify_all();
}

void WorkQueue::put_back(std::shared_ptr<LargeFile> file) {
    {
        const std::lock_guard lock(mutex_);
        --held_;
        if (file) {
            files_.push_front(std::move(file));
        }
    }
    work_.notify_all();
}

void WorkQueue::close() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    work_.notify_all();
}

void WorkQueue::abort() {
    {
        const std::lock_guard lock(mutex_);
        aborted_ = true;
    }
    work_.notify_all();
    room_.notify_all();
}

bool WorkQueue::aborted() const {
    const std::lock_guard lock(mutex_);
    return aborted_;
}

bool WorkQueue::many_files() const {
    const std::lock_guard lock(mutex_);
    return files_.size() >= kManyFiles;
}

bool WorkQueue::admitted(unsigned worker) const {
    return worker == 0 || entries_seen_ >= kEntriesToShare * worker || bytes_seen_ >= kBytesToShare * worker;
}

bool WorkQueue::finished() const {
    return aborted_ || (closed_ && batches_.empty() && files_.empty() && held_ == 0);
}

WorkItem WorkQueue::pop(unsigned worker, bool wait) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] { return finished() || (admitted(worker) && (!files_.empty() || !batches_.empty())); };
    if (wait) {
        work_.wait(lock, ready);
    }
    WorkItem item;
    if (finished() || !ready()) {
        return item;
    }
    if (!files_.empty()) {
        item.file = std::move(files_.front());
        files_.pop_front();
    } else {
        item.batch = std::move(batches_.front());
        batches_.pop_front();
    }
    ++held_;
    lock.unlock();
    room_.notify_one();
    return item;
}

void WorkQueue::batch_done() {
    {
        const std::lock_guard lock(mutex_);
        --held_;
    }
    work_.notify_all();
}

}  // namespace nodesnap
