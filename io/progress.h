// Progress: counters that workers add to and a reporter reads. Lock-free; any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace nodesnap {

struct Progress {
    std::atomic<std::uint64_t> bytes_total{0};  // known so far; grows while the tree is walked
    std::atomic<std::uint64_t> bytes_done{0};
    std::atomic<std::uint64_t> files_total{0};
    std::atomic<std::uint64_t> files_done{0};
    std::atomic<bool> totals_final{false};       // the totals won't grow any more: an ETA makes sense
    std::atomic<const char*> phase{"starting"};  // a string literal
};

}  // namespace nodesnap
