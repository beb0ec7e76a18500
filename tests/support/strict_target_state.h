// What a StrictTarget holds, and what becomes of a call of it.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/strict_target.h"

namespace nodesnap::test {

struct StrictTarget::State {
    struct Object {
        Bytes content;
        std::uint64_t version = 0;
        std::set<std::uint64_t> bad_blocks;  // numbers
    };
    struct Fault {
        std::uint64_t countdown = 0;  // 0: none
        int error_number = 0;
        FaultKind kind = FaultKind::kBefore;
        bool for_good = false;
    };
    struct Change {
        std::uint64_t visible_at = 0;  // when list() shows it
        bool listed_before = false;
        std::uint64_t size_before = 0;
    };

    struct Removal {
        Bytes content;
        bool by_this_process = true;
    };

    mutable std::mutex mutex;
    std::map<std::string, Object> objects;
    std::map<std::string, Change> changes;    // that list() may not show yet
    std::set<std::string> unfinished;         // staging ids
    std::map<std::string, Removal> removals;  // that aren't durable
    std::array<Fault, kOps> faults;
    std::array<std::uint64_t, kOps> counts{};
    std::uint64_t calls = 0;
    std::uint64_t lag = 0;
    std::uint64_t next_version = 1;
    std::uint64_t corrupt_at = 0;  // of the next large object; 0: nowhere
    bool writable = true;
    std::chrono::microseconds delay{0};
    std::optional<Op> held;
    std::condition_variable let_go;

    // Counts the call, and takes its time; the fault that it shall meet, if any.
    Fault enter(Op op) {
        std::unique_lock lock(mutex);
        if (delay.count() > 0) {
            lock.unlock();
            std::this_thread::sleep_for(delay);  // what is slow
            lock.lock();
        }
        let_go.wait(lock, [&] { return held != op; });
        ++calls;
        const auto index = static_cast<std::size_t>(op);
        ++counts[index];
        Fault& fault = faults[index];
        if (fault.countdown == 0 || --fault.countdown > 0) {
            return {};
        }
        const Fault hit = fault;
        if (fault.for_good) {
            fault.countdown = 1;
        }
        return hit;
    }

    // With the mutex held: what else a durable write does.
    void persist_own_removals() {
        std::erase_if(removals, [](const auto& removal) { return removal.second.by_this_process; });
    }

    // With the mutex held, before the object changes.
    void note_change(const std::string& name) {
        const auto present = objects.find(name);
        changes[name] = {calls + lag, present != objects.end(), present != objects.end() ? present->second.content.size() : 0};
    }

    bool put_new(const std::string& name, Bytes content) {
        const std::lock_guard lock(mutex);
        if (objects.contains(name)) {
            return false;
        }
        note_change(name);
        persist_own_removals();
        objects[name] = {std::move(content), next_version++, {}};
        return true;
    }
    std::optional<std::uint64_t> free_bytes;
};

}  // namespace nodesnap::test
