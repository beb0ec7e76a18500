// Throttle: a token bucket shared by all workers; caps bytes per second, smooth at a tenth of a second.
//
// reserve() books bytes and says how long the caller must wait before it moves them (0 if it may go at once). It never blocks itself:
// coroutines await Ring::sleep, threads sleep. An unlimited throttle costs one branch. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

namespace nodesnap {

class Throttle {
public:
    explicit Throttle(std::uint64_t bytes_per_second = 0);  // 0: no cap
    std::chrono::nanoseconds reserve(std::uint64_t bytes);
    bool limited() const noexcept { return bytes_per_second_ != 0; }

private:
    std::uint64_t bytes_per_second_;
    std::mutex mutex_;
    std::chrono::steady_clock::time_point next_free_{};
};

}  // namespace nodesnap
