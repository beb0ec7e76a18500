// Lines: the connections of one client to a host. The first is there from the beginning; the others are made, all at once and each by a
// thread of its own, when large objects are on their way side by side.
//
// Any thread. That another connection can't be had is no error: those that are there do.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "io/remote/connection.h"

namespace nodesnap::remote {

// Makes one more way to the host; `first`: it may ask the operator for what it needs. Any thread, but for the first one.
using Dial = std::function<std::unique_ptr<Transport>(bool first)>;

// A connection, and what large objects there are on it.
struct Line {
    std::unique_ptr<RemoteConnection> connection;
    std::atomic<unsigned> objects{0};          // begun or opened, and not done with
    std::atomic<std::uint64_t> read_bytes{0};  // of large objects, since it was made
};

// Of one large object, as long as it is begun or opened.
class UsedLine {
public:
    explicit UsedLine(std::shared_ptr<Line> line) : line_(std::move(line)) { ++line_->objects; }
    UsedLine(UsedLine&& other) noexcept = default;
    UsedLine& operator=(UsedLine&&) = delete;
    UsedLine(const UsedLine&) = delete;
    UsedLine& operator=(const UsedLine&) = delete;
    ~UsedLine() {
        if (line_) {
            --line_->objects;
        }
    }
    RemoteConnection& operator*() const { return *line_->connection; }
    RemoteConnection* operator->() const { return line_->connection.get(); }
    void count_read(std::uint64_t bytes) const { line_->read_bytes += bytes; }

private:
    std::shared_ptr<Line> line_;
};

class Lines {
public:
    // Connects; `create` the place if it isn't there.
    Lines(Dial dial, unsigned most, bool create);
    ~Lines();  // ends all side by side, since the end of each takes a round trip or two
    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;

    RemoteConnection& first() const;
    RemoteConnection& idlest() const;  // with the least that waits to be sent
    // One that has no object on it, if there may be such; waits for one that is being made.
    UsedLine to_write() { return take(true); }
    // The same, but what is read here and there isn't worth more connections.
    UsedLine to_read() { return take(false); }

private:
    UsedLine take(bool writes);
    std::shared_ptr<Line> least_used() const;
    std::shared_ptr<Line> dial(bool is_first, bool create) const;
    void dial_others();

    const Dial dial_;
    const unsigned most_;
    const std::uint64_t session_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::shared_ptr<Line>> lines_;
    std::vector<std::thread> dialing_threads_;
    unsigned dialing_ = 0;
};

}  // namespace nodesnap::remote
