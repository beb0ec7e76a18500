#include "snapshot/cluster/agent_gates.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "platform/interrupt.h"

namespace nodesnap::cluster {
namespace {

constexpr std::int64_t kSliceNs = 100'000'000;
constexpr std::int64_t kSilenceNs = 2'000'000'000;
constexpr std::int64_t kIdleNs = 5'000'000'000;

}  // namespace

AgentGates::AgentGates(ClusterLink& link, std::string node) : link_(link), node_(std::move(node)) {}

void AgentGates::heard(const Json& message) {
    const std::string word = text_of(message, "do");
    if (word == "cap") {
        const std::int64_t rate = number_of(message, "rate");
        *cap_ = static_cast<std::uint64_t>(std::max<std::int64_t>(rate, 0));
        link_.say({{"is", "capped"}, {"rate", rate}});
        return;
    }
    const std::scoped_lock lock(mutex_);
    if (word == "abort" || word == "stop") {
        ended_ = text_of(message, "why");
        if (let_go_) {
            let_go_();
        }
        interrupt::request();  // whatever the backup is about
    } else {
        words_.push_back(message);
    }
    changed_.notify_all();
}

void AgentGates::lost(const std::string& why) {
    const std::scoped_lock lock(mutex_);
    lost_ = why.empty() ? "the coordinator has ended" : "the connection to the coordinator has ended: " + why;
    if (let_go_) {
        let_go_();
    }
    changed_.notify_all();
}

void AgentGates::throw_lost(const std::string& why) {
    throw Error::failed(why, is_part_ ? "`nodesnap cluster backup --finish` goes on with what was taken" : "run the cluster backup again");
}

std::optional<Json> AgentGates::next(std::int64_t until_ns) {
    std::unique_lock lock(mutex_);
    const auto something = [this] { return !words_.empty() || lost_ || ended_; };
    changed_.wait_for(lock, std::chrono::nanoseconds(std::max<std::int64_t>(until_ns - monotonic_ns(), 0)), something);
    if (ended_) {
        throw Error::failed("the cluster backup was ended: " + *ended_);
    }
    if (!words_.empty()) {
        Json word = std::move(words_.front());
        words_.pop_front();
        return word;
    }
    if (lost_) {
        throw_lost(*lost_);
    }
    return std::nullopt;
}

Json AgentGates::wait_for(const char* word, Patience patience, const std::function<void()>& idle) {
    std::int64_t next_idle_ns = monotonic_ns() + kIdleNs;
    for (;;) {
        if (auto message = next(monotonic_ns() + kSliceNs)) {
            if (text_of(*message, "do") != word) {
                throw Error::failed("the coordinator says \"" + text_of(*message, "do") + "\", where \"" + word + "\" was expected");
            }
            return std::move(*message);
        }
        throw_if_interrupted();
        if (patience == Patience::kWhileHeld && monotonic_ns() - link_.last_heard_ns() > kSilenceNs) {
            throw_lost("the coordinator has said nothing for two seconds, while the daemon was held");
        }
        if (idle && monotonic_ns() >= next_idle_ns) {
            idle();
            next_idle_ns = monotonic_ns() + kIdleNs;
        }
    }
}

void AgentGates::asked(Repository& repository, const Lease& lease) {
    repository_ = &repository;
    lease_ = &lease;
    fault::step("agent.asked");
    link_.say({{"is", "asked"}, {"repository", repository.info().uuid.text()}});
    wait_for("arm", Patience::kWhile);
}

// Durable before anybody may be held for it.
void AgentGates::propose(const Json& message) {
    const CutProposal proposal = CutProposal::parse(text_of(message, "proposal"), "the proposal");
    if (!store_proposal(*repository_, *lease_, proposal)) {
        throw Error::failed("there is another cluster backup of the id " + proposal.id.text() + " in " + repository_->target().describe());
    }
    proposal_ = proposal;
    link_.say({{"is", "proposed"}});
}

CutPart AgentGates::armed(const ArmedBackup& backup, const std::function<void()>& keep_ready, std::function<void()> let_go) {
    {
        const std::scoped_lock lock(mutex_);
        let_go_ = std::move(let_go);
    }
    link_.say({{"is", "armed"},
               {"backup", backup.id.hex()},
               {"backend", backup.backend},
               {"atomic", backup.atomic},
               {"held", backup.held},
               {"stops", backup.stops},
               {"provable", backup.provable},
               {"limit", backup.limit_ns},
               {"machine", machine_id()},
               {"device", backup.device},
               {"inode", backup.inode}});
    propose(wait_for("propose", Patience::kWhile, keep_ready));
    wait_for("hold", Patience::kWhile, keep_ready);
    fault::step("agent.hold");
    CutPart part;
    part.cut = proposal_->id;
    part.cluster = proposal_->cluster;
    part.node = node_;
    part.proposal = proposal_->checksum();
    return part;
}

void AgentGates::disarmed() noexcept {
    const std::scoped_lock lock(mutex_);
    let_go_ = nullptr;
}

void AgentGates::held() {
    link_.say({{"is", "held"}});
    fault::step("agent.held");
    wait_for("snapshot", Patience::kWhileHeld);
    fault::step("agent.snapshot");
}

bool AgentGates::snapped(std::int64_t begun_ns, std::int64_t ended_ns, CutPart& part) {
    link_.say({{"is", "snapped"}, {"begun", begun_ns}, {"ended", ended_ns}});
    fault::step("agent.snapped");
    is_part_ = true;
    // It is let go by this thread, in order, whatever comes: what was taken whole is kept, and the verdict with it.
    disarmed();
    try {
        const Json word = wait_for("release", Patience::kWhileHeld);
        part.taken_ns = number_of(word, "taken");
        part.doubt_ns = number_of(word, "doubt");
        return true;
    } catch (const Error&) {
        const std::scoped_lock lock(mutex_);
        if (ended_ || interrupted()) {
            is_part_ = false;
            throw;
        }
        // What was taken is kept: perhaps all others have got the word.
        lost_ = lost_.value_or("the coordinator has said nothing for two seconds, while the daemon was held");
        return false;
    }
}

void AgentGates::stored(const CutPart& part, std::int64_t downtime_ns, const std::string& doubt) {
    is_part_ = true;
    link_.say({{"is", "stored"}, {"hold", static_cast<int>(part.hold)}, {"downtime", downtime_ns}, {"doubt", doubt}});
    fault::step("agent.stored");
    const Json word = wait_for("drain", Patience::kWhile);
    *cap_ = static_cast<std::uint64_t>(std::max<std::int64_t>(number_of(word, "rate"), 0));
    fault::step("agent.draining");
}

// A cut of which a part can't come any more is given up, unless that was to be borne.
void AgentGates::failing() noexcept {
    if (!proposal_ || is_part_ || proposal_->degraded) {
        return;
    }
    try {
        std::string why;
        {
            const std::scoped_lock lock(mutex_);
            why = ended_.value_or(lost_.value_or("its part failed"));
        }
        mark_cut(*repository_, *lease_, proposal_->id, CutMark::kGivenUp, "node " + node_ + ": " + why);
    } catch (const std::exception&) {  // then it is seen by what is missing
    }
}

}  // namespace nodesnap::cluster
