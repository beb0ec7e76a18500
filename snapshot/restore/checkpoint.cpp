#include "snapshot/restore/checkpoint.h"

#include <utility>

#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap {

RestoreCheckpoint::RestoreCheckpoint(RestoreContext& context, RestoreQueue& queue, RestoreState state, std::string state_path,
                                     FileDescriptor root, std::chrono::milliseconds interval)
    : context_(context),
      queue_(queue),
      state_(std::move(state)),
      state_path_(std::move(state_path)),
      root_(std::move(root)),
      interval_(interval),
      thread_([this] { run(); }) {}

void RestoreCheckpoint::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_all();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
}

void RestoreCheckpoint::run() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, interval_, [this] { return stopping_; })) {
        lock.unlock();
        try {
            take();
        } catch (...) {
            queue_.abort(std::current_exception());
            return;
        }
        lock.lock();
    }
}

void RestoreCheckpoint::take(RestoreState::Phase phase) {
    // First what is complete, then the sync that makes it durable, then the word that it is.
    context_.ledger.fill(state_);
    state_.phase = phase;
    state_.warnings = context_.warnings.groups();
    state_.lost = context_.lost.ranges();  // whoever completes something has told what it lacks before
    state_.lost_further = context_.lost.further();
    state_.sealed = context_.sealed;
    state_.owners_used = context_.owners.used();
    state_.linked = state_.linked || context_.links.used();
    sync_file_system(root_.get(), state_path_);
    store_state(state_path_, state_);
    fault::step(phase == RestoreState::Phase::kPlacing ? "restore.durable" : "restore.checkpoint");
}

}  // namespace nodesnap
