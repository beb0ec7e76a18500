#include "snapshot/command/progress_line.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "io/units.h"

namespace nodesnap::command {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kInterval = std::chrono::milliseconds(500);
constexpr auto kWindow = std::chrono::seconds(10);

}  // namespace

std::string progress_text(const Progress& progress, double rate, std::chrono::nanoseconds elapsed) {
    const std::uint64_t done = progress.bytes_done;
    const std::uint64_t total = progress.bytes_total;
    const std::uint64_t files = progress.files_done;
    std::string text = progress.phase.load();
    text += ": " + human_bytes(done);
    const bool final_total = progress.totals_final && total != 0;
    if (final_total) {
        const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
        text += " of " + human_bytes(total) + " (" + std::to_string(static_cast<int>(share * 100)) + " %)";
    }
    if (files != 0) {
        text += ", " + std::to_string(files) + " files";
    }
    if (rate > 0) {
        text += ", " + human_rate(rate);
    }
    if (final_total && rate > 0 && done < total) {
        const double seconds = std::min(static_cast<double>(total - done) / rate, 1e9);
        text += ", " + human_duration(std::chrono::seconds(static_cast<std::int64_t>(seconds) + 1)) + " left";
    } else if (elapsed >= std::chrono::seconds(1)) {
        text += ", " + human_duration(std::chrono::floor<std::chrono::seconds>(elapsed));
    }
    return text.substr(0, kProgressColumns);
}

ProgressLine::ProgressLine(const Progress& progress, std::ostream& out, bool shown) : progress_(progress), out_(out) {
    if (shown) {
        thread_ = std::thread([this] { run(); });
    }
}

ProgressLine::~ProgressLine() {
    if (!thread_.joinable()) {
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    stop_.notify_one();
    thread_.join();
    out_ << kClearLine << std::flush;
}

void ProgressLine::say(const std::string& text) {
    const std::lock_guard lock(mutex_);
    out_ << (thread_.joinable() ? kClearLine : "") << text << '\n' << std::flush;
}

void ProgressLine::run() {
    const auto begin = Clock::now();
    rate(begin);
    std::unique_lock lock(mutex_);
    while (!stop_.wait_for(lock, kInterval, [this] { return stopping_; })) {
        if (progress_.silent) {
            continue;
        }
        const auto now = Clock::now();
        out_ << kClearLine << progress_text(progress_, rate(now), now - begin) << std::flush;
    }
}

double ProgressLine::rate(Clock::time_point now) {
    const std::uint64_t bytes = progress_.bytes_done;
    if (!samples_.empty() && bytes < samples_.back().bytes) {
        samples_.clear();  // a new phase counts anew
    }
    samples_.push_back({now, bytes});
    while (samples_.size() > 2 && now - samples_.front().at > kWindow) {
        samples_.pop_front();
    }
    const std::chrono::duration<double> span = now - samples_.front().at;
    return span.count() > 0 ? static_cast<double>(bytes - samples_.front().bytes) / span.count() : 0;
}

}  // namespace nodesnap::command
