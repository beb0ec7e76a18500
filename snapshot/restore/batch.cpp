#include "snapshot/restore/batch.h"

namespace nodesnap {

RestoreLedger::RestoreLedger(const RestoreState& state)
    : first_(state.batches), at_start_(state.large), prefix_(state.batches), prefix_bytes_(state.bytes), large_(state.large) {}

void RestoreLedger::restart(const RestoreState& state) {
    const std::lock_guard lock(mutex_);
    first_ = prefix_ = state.batches;
    at_start_ = large_ = state.large;
    prefix_bytes_ = state.bytes;
}

std::uint64_t RestoreLedger::large_at_start(std::uint64_t entry_number) const {
    const auto found = at_start_.find(entry_number);
    return found == at_start_.end() ? 0 : found->second.offset;
}

void RestoreLedger::batch_complete(std::uint64_t number, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    complete_.emplace(number, bytes);
    while (!complete_.empty() && complete_.begin()->first == prefix_) {
        prefix_bytes_ += complete_.begin()->second;
        complete_.erase(complete_.begin());
        ++prefix_;
    }
    while (!large_.empty() && RestoreBatch::batch_of(large_.begin()->first) < prefix_) {
        large_.erase(large_.begin());
    }
}

void RestoreLedger::large_written(std::uint64_t entry_number, std::uint64_t offset, std::uint64_t ino) {
    const std::lock_guard lock(mutex_);
    large_[entry_number] = {offset, ino};
}

void RestoreLedger::fill(RestoreState& state) const {
    const std::lock_guard lock(mutex_);
    state.batches = prefix_;
    state.bytes = prefix_bytes_;
    state.large = large_;
}

void RestoreBatch::part_done(std::uint64_t bytes) {
    bytes_ += bytes;
    if (--parts_ == 0) {
        ledger_.batch_complete(number_, bytes_);
    }
}

}  // namespace nodesnap
