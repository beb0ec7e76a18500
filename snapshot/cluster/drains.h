// Drains: has nodes drain what was taken of them, a few at once, under one cap, and those that fail once more, alone.
//
// Errors: what a node's drain ends with is the member's; it throws only when the program is asked to stop, after all have been told so and
// have suspended. Threads: one.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "snapshot/cluster/member.h"

namespace nodesnap::cluster {

struct DrainRules {
    unsigned parallel = 4;                      // nodes at once
    std::uint64_t cap = 0;                      // bytes per second of all together; 0: none
    unsigned attempts = 3;                      // more of one that fails for a reason that may pass
    std::chrono::seconds pause{60};             // before the first of these; then five times as long, then fifteen
    bool detach = false;                        // asked to stop, it leaves alone what drains
    std::function<void(const Members&)> watch;  // called twice a second
};

class Drains {
public:
    Drains(Members& members, const DrainRules& rules);
    // It waits for the word to drain, or can be had to by resume().
    void add(std::size_t index) { waiting_.push_back(index); }
    // Reaches the node and has it go on with its backup `id`.
    void resume(std::size_t index, const SessionId& id);
    void run();

private:
    void step();
    void start_waiting();
    void look_at(std::size_t index);
    void share();
    void measure(std::int64_t now_ns);
    void begin_again();
    void stop_all(const char* why);
    bool all_done() const;
    std::vector<std::size_t> draining() const;
    std::uint64_t left_alone() const;
    void tell_cap(std::size_t index, std::uint64_t rate);

    Members& members_;
    const DrainRules& rules_;
    std::deque<std::size_t> waiting_;
    std::map<std::size_t, SessionId> resumed_;  // asked to go on with it, not yet at the point to drain
    struct Again {
        std::size_t index;
        std::int64_t due_ns;
    };
    std::deque<Again> again_;
    bool alone_ = false;  // one that failed is tried again
    struct Measured {
        std::int64_t at_ns;
        std::uint64_t bytes;
    };
    std::map<std::size_t, Measured> measured_;
};

}  // namespace nodesnap::cluster
