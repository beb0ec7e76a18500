#include "snapshot/restore/queue.h"

#include <chrono>
#include <utility>

#include "platform/interrupt.h"

namespace nodesnap {
namespace {

constexpr std::chrono::milliseconds kLook{100};  // how often someone who waits looks whether the operator has had enough

}  // namespace

bool RestoreQueue::push(std::shared_ptr<RestoreBatch> batch) {
    std::unique_lock lock(mutex_);
    while (!aborted_ && batches_.size() >= batch_limit_) {
        room_.wait_for(lock, kLook);
        throw_if_interrupted();
    }
    throw_if_interrupted();
    if (aborted_) {
        return false;
    }
    batches_.push_back(std::move(batch));
    work_.notify_one();
    return true;
}

void RestoreQueue::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    work_.notify_all();
}

void RestoreQueue::push(std::unique_ptr<RestoreSlice> slice) {
    const std::lock_guard lock(mutex_);
    slices_.push_back(std::move(slice));
    work_.notify_one();
}

void RestoreQueue::push(std::shared_ptr<RestoreLarge> large) {
    const std::lock_guard lock(mutex_);
    large_.push_back(std::move(large));
    work_.notify_all();
}

void RestoreQueue::batch_sorted() {
    const std::lock_guard lock(mutex_);
    --sorting_;
    work_.notify_all();
}

bool RestoreQueue::finished() const {
    return aborted_ || (closed_ && batches_.empty() && slices_.empty() && large_.empty() && sorting_ == 0);
}

std::optional<RestoreWork> RestoreQueue::take(std::unique_lock<std::mutex>& lock) {
    // By turns: names of small files keep the processors busy, the data of large ones the disk.
    small_next_ = !small_next_;
    auto work = small_next_ ? take_small() : take_large(lock);
    if (!work) {
        work = small_next_ ? take_large(lock) : take_small();
    }
    return work;
}

std::optional<RestoreWork> RestoreQueue::take_large(std::unique_lock<std::mutex>& lock) {
    while (!aborted_ && !large_.empty()) {
        // Cutting a window reads the file's map, and making the file may take a while: not under this lock.
        const auto large = large_.front();
        lock.unlock();
        auto window = large->next_window();
        lock.lock();
        if (window) {
            RestoreWork work;
            work.large = large;
            work.window = std::move(*window);
            return work;
        }
        if (!large_.empty() && large_.front() == large) {
            large_.pop_front();
            work_.notify_all();
        }
    }
    return std::nullopt;
}

std::optional<RestoreWork> RestoreQueue::take_small() {
    RestoreWork work;
    if (!aborted_ && !slices_.empty()) {
        work.slice = std::move(slices_.front());
        slices_.pop_front();
        return work;
    }
    if (!aborted_ && !batches_.empty() && large_.size() < kLargeLimit) {
        work.batch = std::move(batches_.front());
        batches_.pop_front();
        ++sorting_;
        room_.notify_one();
        return work;
    }
    return std::nullopt;
}

RestoreWork RestoreQueue::next(bool wait) {
    throw_if_interrupted();
    std::unique_lock lock(mutex_);
    while (!finished()) {
        if (auto work = take(lock)) {
            return std::move(*work);
        }
        if (!wait || finished()) {
            break;
        }
        work_.wait_for(lock, kLook);
        throw_if_interrupted();
    }
    return {};
}

void RestoreQueue::abort(std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    if (!aborted_) {
        failure_ = std::move(failure);
    }
    aborted_ = true;
    work_.notify_all();
    room_.notify_all();
}

bool RestoreQueue::aborted() const {
    const std::lock_guard lock(mutex_);
    return aborted_;
}

void RestoreQueue::rethrow() const {
    const std::lock_guard lock(mutex_);
    if (failure_) {
        std::rethrow_exception(failure_);
    }
}

}  // namespace nodesnap
