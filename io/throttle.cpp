#include "io/throttle.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace nodesnap {
namespace {

constexpr std::chrono::nanoseconds kBurst = std::chrono::milliseconds(100);

// Saturates at an hour: no single reservation is meant to wait longer, and sums can't overflow.
std::chrono::nanoseconds time_for(std::uint64_t bytes, std::uint64_t bytes_per_second) {
    constexpr double kMax = 3600e9;
    const double nanoseconds = static_cast<double>(bytes) * 1e9 / static_cast<double>(bytes_per_second);
    return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(nanoseconds, kMax)));
}

}  // namespace

Throttle::Throttle(std::uint64_t bytes_per_second) : Throttle(bytes_per_second, &Clock::now) {}
Throttle::Throttle(std::uint64_t bytes_per_second, Clock::time_point (*now)())
    : cap_(std::make_shared<const Cap>(bytes_per_second)), now_(now) {}
Throttle::Throttle(std::shared_ptr<const Cap> cap, std::uint64_t at_most)
    : cap_(cap ? std::move(cap) : std::make_shared<const Cap>(0)), at_most_(at_most), now_(&Clock::now) {}

std::uint64_t Throttle::cap() const noexcept {
    const std::uint64_t cap = *cap_;
    return at_most_ == 0 ? cap : cap == 0 ? at_most_ : std::min(cap, at_most_);
}

std::size_t Throttle::smooth_bytes() const noexcept {
    constexpr std::uint64_t kPage = 4096;
    const std::uint64_t cap = this->cap();
    return cap != 0 ? std::max(kPage, cap / 10 / kPage * kPage) : std::numeric_limits<std::size_t>::max();
}

// A reservation may go when the clock reaches the end of its own place in the queue. The queue's end is never further back than the burst:
// time in which nobody asked doesn't add up.
std::chrono::nanoseconds Throttle::reserve(std::uint64_t bytes) {
    const std::uint64_t cap = this->cap();
    if (cap == 0) {
        return std::chrono::nanoseconds::zero();
    }
    const std::chrono::nanoseconds cost = time_for(bytes, cap);
    const std::scoped_lock lock(mutex_);
    const Clock::time_point now = now_();
    next_free_ = std::max(next_free_, now - kBurst) + cost;
    return std::max(next_free_ - now, std::chrono::nanoseconds::zero());
}

}  // namespace nodesnap
