#include "snapshot/cluster/coordinator.h"

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/interrupt.h"

namespace nodesnap::cluster {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kPingNs = kSecondNs / 2;
constexpr std::int64_t kSilenceNs = 2 * kSecondNs;
constexpr std::int64_t kProposalNs = 60 * kSecondNs;
constexpr std::int64_t kAbortNs = 60 * kSecondNs;
constexpr int kPings = 10;
constexpr std::size_t kLongestWhy = 1024;

class Cut {
public:
    Cut(Members& members, const CutOptions& options) : members_(members), options_(options) {}

    CutResult run() {
        try {
            prepare();
            propose();
            take();
        } catch (const Error& error) {
            abort_all(error.message());
            throw;
        } catch (...) {
            abort_all("the coordinator failed");
            throw;
        }
        judge();
        drain();
        return std::move(result_);
    }

private:
    void show(const char* phase) {
        phase_ = phase;
        if (options_.watch) {
            options_.watch(members_, phase);
        }
    }

    void prepare() {
        show("reaching the nodes");
        std::vector<std::size_t> all(members_.size());
        for (std::size_t index = 0; index < all.size(); ++index) {
            all[index] = index;
        }
        members_.reach(all);
        settle();
        for (const std::size_t index : all) {
            const NodeAddress& address = members_[index].address;
            if (members_[index].live()) {
                members_.say(index, {{"do", "job"}, {"job", "backup"}, {"node", address.name}, {"words", address.words}});
            }
        }
        show("checking the nodes");
        collect(Stage::kAsked, std::chrono::nanoseconds(options_.patience).count());
        refuse_one_repository();
        show("getting ready");
        members_.say_all(Stage::kAsked, {{"do", "arm"}});
        collect(Stage::kArmed, std::chrono::nanoseconds(options_.patience).count());
        refuse_one_directory();
        refuse_unlike_holds();
        compare_clocks();
        refuse_too_short_holds();
    }

    // Fails what can't be borne: any node that failed, or, where the others go on without it, all of them.
    void settle() {
        bool any = false;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            any = any || member.live();
            if (member.stage == Stage::kFailed && !options_.degraded) {
                throw Error(member.error->status(), member.error->message(), member.error->hint(), member.error->error_number());
            }
        }
        if (!any) {
            throw Error::failed("no node is left: " + members_[0].error->message(), members_[0].error->hint());
        }
    }

    // Waits until all that are live have come so far. Who doesn't in that time fails.
    void collect(Stage stage, std::int64_t at_most_ns, bool while_held = false) {
        const std::int64_t until = monotonic_ns() + at_most_ns;
        std::int64_t next_ping_ns = monotonic_ns() + kPingNs;
        std::int64_t next_show_ns = next_ping_ns;
        for (settle(); waits_for(stage); settle()) {
            const std::int64_t now = monotonic_ns();
            if (now >= until) {
                fail_late(stage);
                continue;
            }
            if (while_held && now >= next_ping_ns) {
                fail_silent(now);
                next_ping_ns = now + kPingNs;
                for (std::size_t index = 0; index < members_.size(); ++index) {
                    members_.ping(index);
                }
            }
            if (!while_held && now >= next_show_ns) {
                next_show_ns = now + kPingNs;
                show(phase_);
            }
            members_.advance(std::min(until, next_ping_ns > now ? next_ping_ns : now + kPingNs));
        }
    }

    bool waits_for(Stage stage) const {
        for (std::size_t index = 0; index < members_.size(); ++index) {
            if (members_[index].live() && members_[index].stage < stage) {
                return true;
            }
        }
        return false;
    }

    void fail_late(Stage stage) {
        for (std::size_t index = 0; index < members_.size(); ++index) {
            Member& member = members_[index];
            if (member.live() && member.stage < stage) {
                drop(index,
                     Error::failed("node " + member.address.name + " wasn't " + text_of(stage) + " in time; it is " + text_of(member.stage),
                                   "look what keeps it; --timeout and --max-downtime give more time"));
            }
        }
    }

    void fail_silent(std::int64_t now) {
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (member.live() && now - std::max(members_.last_heard_ns(index), held_since_ns_) > kSilenceNs) {
                drop(index, Error::failed("node " + member.address.name + " has said nothing for two seconds, while all were held",
                                          "look at its load and at the network"));
            }
        }
    }

    void drop(std::size_t index, Error error) {
        members_.say(index, {{"do", "abort"}, {"why", error.message()}});
        members_.fail(index, std::move(error));
    }

    template <typename Key>
    void refuse_same(Key key, const char* what, const char* hint) {
        std::map<decltype(key(members_[0])), std::string> seen;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (!member.live()) {
                continue;
            }
            const auto [at, is_new] = seen.emplace(key(member), member.address.name);
            if (!is_new) {
                throw Error::refused("the nodes " + at->second + " and " + member.address.name + " have one " + what, hint);
            }
        }
    }
    void refuse_one_repository() {
        refuse_same([](const Member& member) { return member.repository; }, "repository",
                    "a repository holds the backups of one node: mixing two loses data");
    }
    void refuse_one_directory() {
        refuse_same([](const Member& member) { return std::tuple(member.machine, member.armed.device, member.armed.inode); },
                    "node directory", "look at the cluster file");
    }

    // The worst of them would be that of all.
    void refuse_unlike_holds() {
        const Member* first = nullptr;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (!member.live()) {
                continue;
            }
            first = first == nullptr ? &member : first;
            result_.held = !first->armed.held.empty();
            if (member.armed.held.empty() != first->armed.held.empty() && !options_.accept_skew) {
                const bool first_holds = !first->armed.held.empty();
                throw Error::refused("node " + (first_holds ? first : &member)->address.name +
                                         " is held while its snapshot is taken, and node " + (first_holds ? &member : first)->address.name +
                                         " isn't: together they would be of no one moment",
                                     "give all the same --hold in the cluster file; --accept-skew takes them as they are");
            }
        }
    }

    void compare_clocks() {
        for (int round = 0; round < kPings; ++round) {
            for (std::size_t index = 0; index < members_.size(); ++index) {
                members_.ping(index);
            }
            // One after the other, so that none waits for another's answer.
            members_.advance(monotonic_ns() + kSecondNs / 100);
        }
        const std::int64_t until = monotonic_ns() + kSilenceNs;
        const auto unknown = [this] {
            for (std::size_t index = 0; index < members_.size(); ++index) {
                if (members_[index].live() && !members_[index].clock.known()) {
                    return true;
                }
            }
            return false;
        };
        while (unknown() && members_.advance(until)) {
        }
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (member.live() && !member.clock.known()) {
                drop(index, Error::failed("node " + member.address.name + " hasn't told its clock within two seconds",
                                          "look at its load and at the network"));
            }
        }
        settle();
    }

    std::int64_t longest_round_trip_ns() const {
        std::int64_t longest = 0;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            longest = std::max(longest, members_[index].live() ? members_[index].clock.round_trip_ns() : 0);
        }
        return longest;
    }

    // How long one may be held, and all with it: shorter than its guard's limit, so that nobody is let go by its guard before the others.
    std::int64_t share_of_limit(const Member& member) const {
        return member.armed.limit_ns != 0 ? member.armed.limit_ns / 10 * 9 : std::chrono::nanoseconds(options_.hold_patience).count();
    }
    void refuse_too_short_holds() {
        for (std::size_t index = 0; result_.held && index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (member.live() && share_of_limit(member) < 4 * longest_round_trip_ns()) {
                throw Error::refused("node " + member.address.name +
                                         " may be held for too short a time: four messages to the farthest node take " +
                                         std::to_string(4 * longest_round_trip_ns() / 1'000'000) + " ms",
                                     "allow a longer --max-downtime");
            }
        }
    }
    // A stop takes as long as it does; a guard's limit counts from when all of the daemon stands.
    std::int64_t patience_for_hold_ns() const {
        std::int64_t least = std::chrono::nanoseconds(options_.patience).count();
        bool stops = false;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (member.live()) {
                stops = stops || member.armed.stops;
                least = std::min(least, share_of_limit(member));
            }
        }
        return stops ? std::chrono::nanoseconds(options_.patience).count() : least;
    }
    std::int64_t patience_for_snapshot_ns() const {
        std::int64_t until = monotonic_ns() + std::chrono::nanoseconds(options_.patience).count();
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (member.live() && member.held_ns != 0) {
                until = std::min(until, member.held_ns + share_of_limit(member));
            }
        }
        return std::max<std::int64_t>(until - monotonic_ns(), 0);
    }

    void propose() {
        CutProposal& proposal = result_.proposal;
        proposal.id = CutId::random();
        proposal.cluster = options_.cluster;
        proposal.created_ns = utc_now_ns();
        proposal.degraded = options_.degraded;
        proposal.cluster_file = options_.cluster_file;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            CutProposal::Node node{member.address.name, member.address.repository, {}, {}, {}};
            if (member.live()) {
                node.repository_uuid = member.repository;
                node.id = member.armed.id;
            } else {
                node.missing = member.error->message().substr(0, kLongestWhy);
            }
            proposal.nodes.push_back(std::move(node));
        }
        proposal = CutProposal::parse(proposal.text(), "the proposal");  // without bytes that can't be stored
        show("proposing");
        members_.say_all(Stage::kArmed, {{"do", "propose"}, {"proposal", proposal.text()}});
        collect(Stage::kProposed, kProposalNs);
        fault::step("cluster.proposed");
    }

    void take() {
        show("holding");
        held_since_ns_ = monotonic_ns();
        const bool pings = true;
        if (result_.held) {
            members_.say_all(Stage::kProposed, {{"do", "hold"}});
            collect(Stage::kHeld, patience_for_hold_ns(), pings);
            fault::step("cluster.held");
            members_.say_all(Stage::kHeld, {{"do", "snapshot"}});
        } else {
            // Nobody waits for anybody: the snapshots are as near to each other as the words arrive.
            members_.say_all(Stage::kProposed, {{"do", "hold"}});
            members_.say_all(Stage::kProposed, {{"do", "snapshot"}});
        }
        collect(Stage::kSnapped, patience_for_snapshot_ns(), pings);
        fault::step("cluster.snapped");
        // From here on nothing is taken back.
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (member.live()) {
                const std::int64_t taken_ns = utc_now_ns() - (monotonic_ns() - member.begun_ns);
                members_.say(index, {{"do", "release"}, {"taken", taken_ns}, {"doubt", member.clock.doubt_ns()}});
            }
        }
        fault::step("cluster.released");
    }

    // Waits until each has noted what it took; who doesn't is named.
    void judge() {
        show("letting go");
        const std::int64_t until = monotonic_ns() + std::chrono::nanoseconds(options_.patience).count();
        while (waits_for(Stage::kStored) && members_.advance(until)) {
        }
        fault::step("cluster.stored");
        std::int64_t first = 0;
        std::int64_t last = 0;
        bool any = false;
        result_.one_moment = result_.held;
        for (std::size_t index = 0; index < members_.size(); ++index) {
            const Member& member = members_[index];
            if (!member.live()) {
                result_.one_moment = false;
                continue;
            }
            first = any ? std::min(first, member.begun_ns) : member.begun_ns;
            last = any ? std::max(last, member.ended_ns) : member.ended_ns;
            any = true;
            result_.skew_doubt_ns = std::max(result_.skew_doubt_ns, 2 * member.clock.doubt_ns());
            if (result_.held && member.hold != CutPart::Hold::kProved) {
                result_.one_moment = false;
                result_.doubts.push_back("node " + member.address.name + ": " +
                                         (member.doubt.empty() ? "what holds it doesn't tell whether it stood still" : member.doubt));
            }
        }
        result_.skew_ns = last - first;
    }

    void drain() {
        DrainRules rules = options_.drains;
        rules.watch = [this](const Members&) { show("draining"); };
        Drains drains(members_, rules);
        for (std::size_t index = 0; index < members_.size(); ++index) {
            if (members_[index].live() && members_[index].stage == Stage::kStored) {
                drains.add(index);
            }
        }
        drains.run();
    }

    void abort_all(const std::string& why) noexcept {
        try {
            members_.say_all(Stage::kHere, {{"do", "abort"}, {"why", why}});
            const std::int64_t until = monotonic_ns() + kAbortNs;
            while (members_.count(Stage::kAsked) != 0 && members_.advance(until, false)) {
            }
        } catch (const std::exception&) {  // their connections end, which says the same
        }
    }

    Members& members_;
    const CutOptions& options_;
    CutResult result_;
    const char* phase_ = "";
    std::int64_t held_since_ns_ = 0;
};

}  // namespace

CutResult take_cut(Members& members, const CutOptions& options) {
    return Cut(members, options).run();
}

}  // namespace nodesnap::cluster
