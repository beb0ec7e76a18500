#include "io/remote/lines.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "platform/blocked_signals.h"
#include "platform/error.h"
#include "platform/random.h"

namespace nodesnap::remote {
namespace {

constexpr std::uint64_t kReadsWorthAnother = std::uint64_t{8} << 20;  // bytes: some round trips' worth of a connection

}  // namespace

Lines::Lines(Dial dial, unsigned most, bool create) : dial_(std::move(dial)), most_(most), session_(random_u64()) {
    lines_.push_back(this->dial(true, create));
}

Lines::~Lines() {
    for (std::thread& thread : dialing_threads_) {
        thread.join();
    }
    std::vector<std::thread> ending;
    while (!lines_.empty()) {
        std::shared_ptr<Line> line = std::move(lines_.back());
        lines_.pop_back();
        try {
            if (!lines_.empty()) {
                const BlockedSignals blocked;
                ending.emplace_back([last = std::move(line)]() mutable { last.reset(); });
            }
        } catch (const std::exception&) {  // then it ended here
        }
    }
    for (std::thread& thread : ending) {
        thread.join();
    }
}

std::shared_ptr<Line> Lines::dial(bool is_first, bool create) const {
    auto line = std::make_shared<Line>();
    line->connection = std::make_unique<RemoteConnection>(dial_(is_first), session_, create);
    return line;
}

RemoteConnection& Lines::first() const {
    const std::lock_guard lock(mutex_);
    return *lines_.front()->connection;
}

RemoteConnection& Lines::idlest() const {
    const std::lock_guard lock(mutex_);
    return *(*std::min_element(lines_.begin(), lines_.end(), [](const auto& a, const auto& b) {
                return a->connection->queued_bytes() < b->connection->queued_bytes();
            }))->connection;
}

std::shared_ptr<Line> Lines::least_used() const {
    return *std::min_element(lines_.begin(), lines_.end(), [](const auto& a, const auto& b) { return a->objects < b->objects; });
}

UsedLine Lines::take(bool writes) {
    std::unique_lock lock(mutex_);
    const auto line = least_used();
    if (line->objects > 0 && (writes || line->read_bytes >= kReadsWorthAnother)) {
        dial_others();
        changed_.wait(lock, [this] { return dialing_ == 0 || least_used()->objects == 0; });
    }
    return UsedLine(least_used());
}

// All that there may be, once. With mutex_ held.
void Lines::dial_others() {
    const BlockedSignals blocked;
    try {
        while (dialing_threads_.size() + 1 < most_) {
            dialing_threads_.emplace_back([this] {
                std::shared_ptr<Line> line;
                try {
                    line = dial(false, false);
                } catch (const std::exception&) {  // what is there does
                }
                const std::lock_guard lock(mutex_);
                if (line) {
                    lines_.push_back(std::move(line));
                }
                --dialing_;
                changed_.notify_all();
            });
            ++dialing_;
        }
    } catch (const std::system_error&) {  // no more threads
    }
}

}  // namespace nodesnap::remote
