// ProgressLine: shows a Progress on a terminal, twice a second, from a thread of its own; the destructor clears it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>

#include "io/progress.h"

namespace nodesnap::command {

inline constexpr std::string_view kClearLine = "\r\033[K";  // before each
inline constexpr std::size_t kProgressColumns = 79;

// What the line says; `rate` is bytes per second lately. At most 79 columns.
std::string progress_text(const Progress& progress, double rate, std::chrono::nanoseconds elapsed);

class ProgressLine {
public:
    // Shows nothing unless `shown`. Nothing else may write to `out` while it lives.
    ProgressLine(const Progress& progress, std::ostream& out, bool shown);
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;
    ~ProgressLine();
    // A line of its own, also where no progress is shown. Any thread.
    void say(const std::string& text);

private:
    void run();
    double rate(std::chrono::steady_clock::time_point now);

    const Progress& progress_;
    std::ostream& out_;
    struct Sample {
        std::chrono::steady_clock::time_point at;
        std::uint64_t bytes;
    };
    std::deque<Sample> samples_;  // of the last ten seconds
    std::mutex mutex_;
    std::condition_variable stop_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace nodesnap::command
