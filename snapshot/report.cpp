#include "snapshot/report.h"

#include <utility>

namespace nodesnap {

void Report::warn(std::string message) {
    const std::scoped_lock lock(mutex_);
    ++count_;
    if (warnings_.size() < kKept) {
        warnings_.push_back(std::move(message));
    }
}

std::vector<std::string> Report::warnings() const {
    const std::scoped_lock lock(mutex_);
    return warnings_;
}

std::uint64_t Report::count() const {
    const std::scoped_lock lock(mutex_);
    return count_;
}

}  // namespace nodesnap
