// What a coordinator knows of the nodes of a cluster, and the way to their agents.
//
// Members runs no thread of its own: what the links' threads hear waits until advance() takes it. Threads: one at a time, but for those.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "io/remote/connection.h"
#include "platform/error.h"
#include "snapshot/backup/gates.h"
#include "snapshot/cluster/clock_offset.h"
#include "snapshot/cluster/link.h"

namespace nodesnap::cluster {

struct NodeAddress {
    std::string name;
    std::string repository;          // as the node names it
    std::vector<std::string> words;  // of its backup: NODE_DIR REPOSITORY and options
    std::function<std::unique_ptr<remote::Transport>()> dial;
};

// How far a node has come. Ascending; what isn't reached any more is kFailed.
enum class Stage { kAway, kHere, kAsked, kArmed, kProposed, kHeld, kSnapped, kStored, kDraining, kDone, kFailed };
const char* text_of(Stage stage) noexcept;

struct Member {
    NodeAddress address;
    Stage stage = Stage::kAway;
    std::optional<Error> error;  // kFailed
    std::string version, machine;
    Uuid repository;
    ArmedBackup armed;
    ClockOffset clock;
    std::int64_t held_ns = 0;                   // when it said that it is held; monotonic
    std::int64_t begun_ns = 0, ended_ns = 0;    // of its snapshot, by the coordinator's monotonic clock
    CutPart::Hold hold = CutPart::Hold::kNone;  // from kStored on, as the next two
    std::int64_t downtime_ns = 0;
    std::string doubt;
    std::string phase;
    std::uint64_t bytes_done = 0, bytes_total = 0;  // total: 0 while it isn't known
    std::uint64_t rate = 0;                         // bytes per second, lately
    std::uint64_t cap_told = 0, cap_confirmed = 0;
    Json result;  // kDone: what the agent has said with it
    std::vector<std::string> warnings;
    std::string output;         // of a command, as far as it isn't taken
    std::vector<Json> answers;  // of an inspection
    unsigned attempts = 0;      // to drain it
    bool was_stored = false;    // it is a part
    bool may_drain = false;     // its connection has ended while it drained: it may still

    bool live() const { return stage != Stage::kAway && stage != Stage::kFailed; }
};

class Members {
public:
    explicit Members(std::vector<NodeAddress> addresses);
    ~Members();
    Members(const Members&) = delete;
    Members& operator=(const Members&) = delete;

    std::size_t size() const { return members_.size(); }
    Member& operator[](std::size_t index) { return *members_[index]; }
    const Member& operator[](std::size_t index) const { return *members_[index]; }

    // Has an agent that waits for a job on each of these; reaches those that haven't, at once. Who can't be reached is kFailed.
    void reach(const std::vector<std::size_t>& which);
    void say(std::size_t index, const Json& message);
    void say_all(Stage at_least, const Json& message);  // to all that are live and have come so far
    void ping(std::size_t index);
    // Takes what was heard, waiting until then for it; monotonic. False if nothing came. Throws when the program is asked to stop.
    bool advance(std::int64_t until_ns, bool interruptible = true);
    std::int64_t last_heard_ns(std::size_t index) const;
    void fail(std::size_t index, Error error);
    void leave(std::size_t index);            // ends the connection in order
    std::size_t count(Stage at_least) const;  // of the live ones

private:
    struct Event {
        std::size_t index;
        std::uint64_t connection;
        std::int64_t at_ns;
        Json message;
        std::optional<std::string> ended;
    };
    struct Way {
        std::unique_ptr<remote::Transport> transport;
        std::unique_ptr<ClusterLink> link;
        std::uint64_t connection = 0;
        bool idle = false;                                        // the agent is there, and waits for a job
        std::deque<std::pair<std::int64_t, std::int64_t>> pings;  // number and when it was sent
    };

    void connect(std::size_t index);
    void hang_up(Way& way);
    void fail_reaching(std::size_t index, const Error& error);
    void apply(const Event& event);
    void take(Member& member, const Json& message, std::int64_t at_ns, Way& way);

    std::vector<std::unique_ptr<Member>> members_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Event> events_;
    std::uint64_t connections_ = 0;
    std::int64_t pings_ = 0;
    std::vector<Way> ways_;  // the last: its threads use the others
};

}  // namespace nodesnap::cluster
