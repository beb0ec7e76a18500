#include "snapshot/cluster/drains.h"

#include <algorithm>
#include <array>
#include <exception>
#include <numeric>

#include "platform/clock.h"
#include "platform/interrupt.h"
#include "snapshot/cluster/shared_cap.h"

namespace nodesnap::cluster {
namespace {

constexpr std::int64_t kTickNs = 500'000'000;
constexpr std::int64_t kStopNs = 120'000'000'000;
constexpr std::array<int, 3> kPauses{1, 5, 15};

// Of the network, the target, a full disk; not what is the same the next time.
bool may_pass(const Error& error) {
    return error.status() == ExitStatus::kFailed || error.status() == ExitStatus::kLocked;
}

}  // namespace

Drains::Drains(Members& members, const DrainRules& rules) : members_(members), rules_(rules) {}

void Drains::resume(std::size_t index, const SessionId& id) {
    Member& member = members_[index];
    member.armed.id = id;
    members_.reach({index});
    if (!member.live()) {
        measured_[index] = {};
        return;
    }
    resumed_[index] = id;
    members_.say(index,
                 {{"do", "job"}, {"job", "backup"}, {"node", member.address.name}, {"words", member.address.words}, {"resume", id.hex()}});
}

void Drains::run() {
    std::int64_t next_tick_ns = 0;
    try {
        while (!all_done()) {
            step();
            const std::int64_t now = monotonic_ns();
            if (now >= next_tick_ns) {
                measure(now);
                share();
                if (rules_.watch) {
                    rules_.watch(members_);
                }
                next_tick_ns = now + kTickNs;
            }
            members_.advance(next_tick_ns);
        }
    } catch (const std::exception&) {
        if (interrupted() && !rules_.detach) {
            stop_all("the coordinator was asked to stop");
        }
        throw;
    }
}

std::vector<std::size_t> Drains::draining() const {
    std::vector<std::size_t> indexes;
    for (std::size_t index = 0; index < members_.size(); ++index) {
        if (members_[index].stage == Stage::kDraining) {
            indexes.push_back(index);
        }
    }
    return indexes;
}

bool Drains::all_done() const {
    return waiting_.empty() && resumed_.empty() && again_.empty() && draining().empty() && !alone_;
}

void Drains::step() {
    for (auto at = resumed_.begin(); at != resumed_.end();) {
        const std::size_t index = at->first;
        const Stage stage = members_[index].stage;
        if (stage == Stage::kAsked) {
            members_[index].may_drain = false;  // its former agent has given the repository back
            members_.say(index, {{"do", "arm"}});
            members_[index].stage = Stage::kArmed;  // said once
        }
        if (stage == Stage::kStored || stage == Stage::kFailed || stage == Stage::kDone) {
            if (stage == Stage::kStored) {
                waiting_.push_back(index);
            } else {
                measured_[index] = {};  // it has ended as a drain does
            }
            at = resumed_.erase(at);
            continue;
        }
        ++at;
    }
    for (std::size_t index = 0; index < members_.size(); ++index) {
        look_at(index);
    }
    start_waiting();
    begin_again();
}

// A drain that has failed, while it waited or was under way.
void Drains::look_at(std::size_t index) {
    Member& member = members_[index];
    const bool known = measured_.contains(index) || std::find(waiting_.begin(), waiting_.end(), index) != waiting_.end();
    if (!known || (member.stage != Stage::kFailed && member.stage != Stage::kDone)) {
        return;
    }
    std::erase(waiting_, index);
    measured_.erase(index);
    member.rate = 0;
    if (!member.may_drain) {
        member.cap_told = member.cap_confirmed = 0;
    }
    alone_ = false;
    if (member.stage == Stage::kFailed && may_pass(*member.error) && member.attempts < rules_.attempts) {
        const std::int64_t pause_ns = std::chrono::nanoseconds(rules_.pause).count() * kPauses[std::min<std::size_t>(member.attempts, 2)];
        ++member.attempts;
        again_.push_back({index, monotonic_ns() + pause_ns});
    }
}

void Drains::start_waiting() {
    while (!waiting_.empty() && draining().size() < rules_.parallel) {
        const std::size_t index = waiting_.front();
        waiting_.pop_front();
        Member& member = members_[index];
        member.stage = Stage::kDraining;
        member.bytes_done = member.bytes_total = 0;
        measured_[index] = {monotonic_ns(), 0};
        std::uint64_t rate = 0;
        if (rules_.cap != 0) {
            // The others give it their share within a second.
            const auto active = draining();
            std::uint64_t taken = left_alone();
            for (const std::size_t other : active) {
                taken += other == index ? 0 : std::max(members_[other].cap_told, members_[other].cap_confirmed);
            }
            rate = std::max<std::uint64_t>(std::min(rules_.cap / active.size(), rules_.cap - std::min(taken, rules_.cap)), 4096);
        }
        member.cap_told = member.cap_confirmed = rate;
        members_.say(index, {{"do", "drain"}, {"rate", rate}});
    }
}

void Drains::measure(std::int64_t now_ns) {
    for (auto& [index, before] : measured_) {
        Member& member = members_[index];
        const std::int64_t passed = now_ns - before.at_ns;
        if (passed < kTickNs) {
            continue;
        }
        const std::uint64_t moved = member.bytes_done - std::min(member.bytes_done, before.bytes);
        const double rate = static_cast<double>(moved) * 1e9 / static_cast<double>(passed);
        member.rate = static_cast<std::uint64_t>((static_cast<double>(member.rate) + rate) / 2);
        before = {now_ns, member.bytes_done};
    }
}

void Drains::tell_cap(std::size_t index, std::uint64_t rate) {
    members_[index].cap_told = rate;
    members_.say(index, {{"do", "cap"}, {"rate", rate}});
}

// What those may use that drain on although nobody can tell them anything.
std::uint64_t Drains::left_alone() const {
    std::uint64_t rate = 0;
    for (std::size_t index = 0; index < members_.size(); ++index) {
        const Member& member = members_[index];
        rate += member.may_drain ? std::max(member.cap_told, member.cap_confirmed) : 0;
    }
    return rate;
}

// What one gets more must have been given back by another before: who hasn't confirmed that counts with what it had.
void Drains::share() {
    if (rules_.cap == 0) {
        return;
    }
    const std::vector<std::size_t> active = draining();
    std::vector<std::uint64_t> used;
    used.reserve(active.size());
    for (const std::size_t index : active) {
        used.push_back(members_[index].rate);
    }
    std::uint64_t taken = left_alone();
    const std::vector<std::uint64_t> shares = share_cap(rules_.cap - std::min(taken, rules_.cap), used);
    for (std::size_t i = 0; i < active.size(); ++i) {
        Member& member = members_[active[i]];
        if (shares[i] < member.cap_told) {
            tell_cap(active[i], shares[i]);
        }
        taken += std::max(member.cap_told, member.cap_confirmed);
    }
    for (std::size_t i = 0; i < active.size(); ++i) {
        Member& member = members_[active[i]];
        const std::uint64_t free = rules_.cap - std::min(taken, rules_.cap);
        const std::uint64_t more = std::min(shares[i] - std::min(shares[i], member.cap_told), free);
        if (more > member.cap_told / 16) {
            taken += more;
            tell_cap(active[i], member.cap_told + more);
        }
    }
}

// When nothing else is under way any more.
void Drains::begin_again() {
    if (again_.empty() || alone_ || !waiting_.empty() || !draining().empty() || !resumed_.empty()) {
        return;
    }
    const auto next =
        std::min_element(again_.begin(), again_.end(), [](const Again& one, const Again& other) { return one.due_ns < other.due_ns; });
    if (next->due_ns > monotonic_ns()) {
        return;
    }
    const std::size_t index = next->index;
    again_.erase(next);
    resume(index, members_[index].armed.id);
}

void Drains::stop_all(const char* why) {
    members_.say_all(Stage::kAsked, {{"do", "stop"}, {"why", why}});
    const std::int64_t until = monotonic_ns() + kStopNs;
    const auto busy = [this] {
        for (std::size_t index = 0; index < members_.size(); ++index) {
            if (members_[index].live() && members_[index].stage != Stage::kDone && members_[index].stage != Stage::kHere) {
                return true;
            }
        }
        return false;
    };
    while (busy() && members_.advance(until, false)) {
    }
}

}  // namespace nodesnap::cluster
