#include "snapshot/cluster/member.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "platform/clock.h"
#include "platform/interrupt.h"

namespace nodesnap::cluster {
namespace {

constexpr std::int64_t kSliceNs = 200'000'000;
constexpr std::chrono::seconds kGreeting{60};
constexpr std::size_t kOutputKept = std::size_t{1} << 20;

const std::array<std::pair<const char*, Stage>, 6> kStages{{{"here", Stage::kHere},
                                                            {"asked", Stage::kAsked},
                                                            {"armed", Stage::kArmed},
                                                            {"proposed", Stage::kProposed},
                                                            {"held", Stage::kHeld},
                                                            {"snapped", Stage::kSnapped}}};

ArmedBackup armed_of(const Json& message) {
    ArmedBackup armed;
    const auto id = SessionId::parse(text_of(message, "backup"));
    if (!id) {
        throw Error::failed("it names no backup");
    }
    armed.id = *id;
    armed.backend = text_of(message, "backend");
    armed.atomic = flag_of(message, "atomic");
    armed.held = text_of(message, "held");
    armed.stops = flag_of(message, "stops");
    armed.provable = flag_of(message, "provable");
    armed.limit_ns = number_of(message, "limit");
    armed.device = static_cast<std::uint64_t>(number_of(message, "device"));
    armed.inode = static_cast<std::uint64_t>(number_of(message, "inode"));
    return armed;
}

}  // namespace

const char* text_of(Stage stage) noexcept {
    constexpr std::array kTexts{"not reached",         "reached",  "checked", "ready", "proposed", "held", "snapped",
                                "waits to be drained", "draining", "done",    "failed"};
    return kTexts[static_cast<std::size_t>(stage)];
}

Members::Members(std::vector<NodeAddress> addresses) : ways_(addresses.size()) {
    for (NodeAddress& address : addresses) {
        members_.push_back(std::make_unique<Member>());
        members_.back()->address = std::move(address);
    }
}

Members::~Members() {
    // All at once: each may be waited for.
    for (const Way& way : ways_) {
        if (way.link) {
            way.link->close_saying();
        }
    }
    for (Way& way : ways_) {
        hang_up(way);
    }
}

void Members::reach(const std::vector<std::size_t>& which) {
    for (const std::size_t index : which) {
        Member& member = *members_[index];
        member.error.reset();
        if (ways_[index].link && !ways_[index].link->ended() && ways_[index].idle) {
            member.stage = Stage::kHere;
            continue;
        }
        hang_up(ways_[index]);
        member.stage = Stage::kAway;
        try {
            ways_[index].transport = member.address.dial();
        } catch (const Error& error) {
            fail_reaching(index, error);
        }
    }
    for (const std::size_t index : which) {
        if (ways_[index].transport && !ways_[index].link) {
            try {
                connect(index);
            } catch (const Error& error) {
                throw_if_interrupted();
                fail_reaching(index, error);
            }
        }
    }
    const auto awaited = [&] {
        return std::any_of(which.begin(), which.end(), [this](std::size_t index) { return members_[index]->stage == Stage::kAway; });
    };
    const std::int64_t until_ns = monotonic_ns() + std::chrono::nanoseconds(kGreeting).count();
    while (awaited() && advance(until_ns)) {
    }
    for (const std::size_t index : which) {
        if (members_[index]->stage == Stage::kAway) {
            fail_reaching(index, Error::failed("its agent has said nothing for a minute", "look at its load"));
        }
    }
}

// The connection first: it is what the program at its end waits for.
void Members::hang_up(Way& way) {
    way.link.reset();
    way.transport.reset();
    way.pings.clear();
    way.idle = false;
}

void Members::connect(std::size_t index) {
    Way& way = ways_[index];
    remote::Streams streams = remote::greeted_streams(*way.transport, kGreeting);
    const std::uint64_t connection = ++connections_;
    way.connection = connection;
    const auto push = [this](Event event) {
        const std::scoped_lock lock(mutex_);
        events_.push_back(std::move(event));
        changed_.notify_one();
    };
    way.link = std::make_unique<ClusterLink>(std::move(streams.in), std::move(streams.out),
                                             ClusterLink::Listener{
                                                 [=](const Json& message, std::int64_t at_ns) {
                                                     push({index, connection, at_ns, message, {}});
                                                 },
                                                 [=](const std::string& why) {
                                                     push({index, connection, monotonic_ns(), {}, why});
                                                 },
                                             });
}

void Members::say(std::size_t index, const Json& message) {
    Way& way = ways_[index];
    if (way.link) {
        way.idle = way.idle && message.value("do", "") != "job";
        way.link->say(message);
    }
}

void Members::say_all(Stage at_least, const Json& message) {
    for (std::size_t index = 0; index < members_.size(); ++index) {
        if (members_[index]->live() && members_[index]->stage >= at_least) {
            say(index, message);
        }
    }
}

void Members::ping(std::size_t index) {
    constexpr std::size_t kUnanswered = 64;
    Way& way = ways_[index];
    if (!way.link || way.pings.size() >= kUnanswered) {
        return;
    }
    way.pings.emplace_back(++pings_, monotonic_ns());
    way.link->say({{"do", "ping"}, {"number", pings_}});
}

std::int64_t Members::last_heard_ns(std::size_t index) const {
    return ways_[index].link ? ways_[index].link->last_heard_ns() : 0;
}

bool Members::advance(std::int64_t until_ns, bool interruptible) {
    for (;;) {
        Event event;
        {
            std::unique_lock lock(mutex_);
            const std::int64_t wait_ns = std::clamp<std::int64_t>(until_ns - monotonic_ns(), 0, kSliceNs);
            changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns), [this] { return !events_.empty(); });
            if (!events_.empty()) {
                event = std::move(events_.front());
                events_.pop_front();
            } else {
                event.index = members_.size();
            }
        }
        if (interruptible) {
            throw_if_interrupted();
        }
        if (event.index < members_.size()) {
            apply(event);
            return true;
        }
        if (monotonic_ns() >= until_ns) {
            return false;
        }
    }
}

void Members::apply(const Event& event) {
    Member& member = *members_[event.index];
    Way& way = ways_[event.index];
    if (event.connection != way.connection || member.stage == Stage::kFailed) {
        return;  // of a connection that is given up
    }
    if (event.ended) {
        if (member.stage != Stage::kDone) {
            member.may_drain = member.stage == Stage::kDraining;
            const std::string words = way.transport->last_words();
            const std::string why = !event.ended->empty() ? *event.ended : words.empty() ? "its agent has ended" : words;
            fail(event.index,
                 Error::failed("node " + member.address.name + ": the connection to " + way.transport->describe() + " has ended: " + why,
                               "look whether the host runs and can be reached"));
        }
        return;
    }
    try {
        take(member, event.message, event.at_ns, way);
    } catch (const Error& error) {
        fail(event.index, Error(error.status(), "node " + member.address.name + ": " + error.message(), error.hint()));
    }
}

void Members::take(Member& member, const Json& message, std::int64_t at_ns, Way& way) {
    const std::string word = cluster::text_of(message, "is");
    if (word == "pong") {
        const std::int64_t number = number_of(message, "number");
        while (!way.pings.empty() && way.pings.front().first <= number) {
            if (way.pings.front().first == number) {
                member.clock.add(way.pings.front().second, number_of(message, "clock"), at_ns);
            }
            way.pings.pop_front();
        }
        return;
    }
    way.idle = way.idle || word == "here" || word == "done" || word == "failed";
    for (const auto& [name, stage] : kStages) {
        if (word == name) {
            member.stage = stage;
        }
    }
    if (word == "here") {
        member.version = text_of(message, "version");
        member.machine = text_of(message, "machine");
        if (member.version != NODESNAP_VERSION) {
            throw Error::failed("nodesnap " + member.version + " is there, and " + NODESNAP_VERSION + " here",
                                "install one version on all hosts of a cluster");
        }
    } else if (word == "asked") {
        member.repository = Uuid::parse(text_of(message, "repository")).value_or(Uuid());
    } else if (word == "armed") {
        member.armed = armed_of(message);
    } else if (word == "held") {
        member.held_ns = at_ns;
    } else if (word == "snapped") {
        member.begun_ns = member.clock.here(number_of(message, "begun"));
        member.ended_ns = member.clock.here(number_of(message, "ended"));
    } else if (word == "stored") {
        member.stage = Stage::kStored;
        member.was_stored = true;
        member.hold = static_cast<CutPart::Hold>(std::clamp<std::int64_t>(number_of(message, "hold"), 0, 2));
        member.downtime_ns = number_of(message, "downtime");
        member.doubt = text_of(message, "doubt");
    } else if (word == "progress") {
        member.phase = text_of(message, "phase");
        member.bytes_done = static_cast<std::uint64_t>(number_of(message, "done"));
        member.bytes_total = static_cast<std::uint64_t>(number_of(message, "total"));
    } else if (word == "capped") {
        member.cap_confirmed = static_cast<std::uint64_t>(number_of(message, "rate"));
    } else if (word == "warning") {
        member.warnings.push_back(text_of(message, "text"));
    } else if (word == "output") {
        member.output += text_of(message, "text");
        if (member.output.size() > kOutputKept) {
            throw Error::failed("its command prints too much");
        }
    } else if (word == "done") {
        if (message.contains("seconds") && !message["seconds"].is_number()) {
            throw Error::failed("what it says of its drain can't be understood");
        }
        member.result = message;
        member.stage = Stage::kDone;
    } else if (word == "failed") {
        member.error = error_of(message, member.address.name);
        member.stage = Stage::kFailed;
    } else if (word == "cut" || word == "part" || word == "draft" || word == "newest" || word == "place") {
        member.answers.push_back(message);
    }
}

void Members::fail_reaching(std::size_t index, const Error& error) {
    fail(index,
         Error(error.status(), "node " + members_[index]->address.name + ": " + error.message(), error.hint(), error.error_number()));
}

void Members::fail(std::size_t index, Error error) {
    members_[index]->stage = Stage::kFailed;
    members_[index]->error = std::move(error);
}

void Members::leave(std::size_t index) {
    if (ways_[index].link) {
        ways_[index].link->close_saying();
    }
}

std::size_t Members::count(Stage at_least) const {
    return static_cast<std::size_t>(
        std::count_if(members_.begin(), members_.end(), [&](const auto& member) { return member->live() && member->stage >= at_least; }));
}

}  // namespace nodesnap::cluster
