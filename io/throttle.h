// Throttle: a token bucket shared by all workers; caps bytes per second, smooth at a tenth of a second.
//
// reserve() books bytes and says how long the caller must wait before it moves them (0 if it may go at once). It never blocks itself:
// coroutines await Ring::sleep, threads sleep. In any time t at most rate * (t + 0.1 s) bytes get through: who comes late may catch up a
// tenth of a second's worth, no more, and a reservation larger than that waits until it has been earned. An unlimited throttle costs one
// branch. The cap may be changed at any time; what is waited for already stays as long. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

namespace nodesnap {

class Throttle {
public:
    using Clock = std::chrono::steady_clock;

    explicit Throttle(std::uint64_t bytes_per_second = 0);  // 0: no cap
    // Goes by a cap that others may change; null: none.
    using Cap = std::atomic<std::uint64_t>;
    explicit Throttle(std::shared_ptr<const Cap> cap, std::uint64_t at_most = 0);  // at_most: whatever that says; 0: no such limit
    // With a clock of the caller's, for tests.
    Throttle(std::uint64_t bytes_per_second, Clock::time_point (*now)());

    std::chrono::nanoseconds reserve(std::uint64_t bytes);
    bool limited() const noexcept { return cap() != 0; }
    // How much to move at once for the cap to be smooth: a tenth of a second's worth, in whole pages; all there is without a cap.
    std::size_t smooth_bytes() const noexcept;

private:
    std::uint64_t cap() const noexcept;  // bytes per second

    std::shared_ptr<const Cap> cap_;
    std::uint64_t at_most_ = 0;
    Clock::time_point (*now_)();
    std::mutex mutex_;
    Clock::time_point next_free_{};  // when all that was reserved so far has passed at the capped rate
};

}  // namespace nodesnap
