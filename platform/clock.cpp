#include "platform/clock.h"

#include <ctime>

namespace nodesnap {
namespace {

std::int64_t now_ns(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);  // can't fail for these clocks
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

std::int64_t utc_now_ns() {
    return now_ns(CLOCK_REALTIME);
}
std::int64_t next_stamp_ns() {
    const std::int64_t before = now_ns(CLOCK_REALTIME_COARSE);
    std::int64_t now = before;
    while (now == before) {
        const timespec pause{0, 500'000};
        ::nanosleep(&pause, nullptr);
        now = now_ns(CLOCK_REALTIME_COARSE);
    }
    return now;
}
std::int64_t monotonic_ns() {
    return now_ns(CLOCK_MONOTONIC);
}
std::int64_t boot_time_ns() {
    return now_ns(CLOCK_BOOTTIME);
}

}  // namespace nodesnap
