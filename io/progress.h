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
    std::atomic<bool> silent{false};             // nothing is to be shown now
};

// While it lives nothing is shown: who would show it could be waiting for one who is held.
class Silence {
public:
    explicit Silence(Progress& progress) : progress_(progress) { progress_.silent = true; }
    ~Silence() { progress_.silent = false; }
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;

private:
    Progress& progress_;
};

}  // namespace nodesnap
