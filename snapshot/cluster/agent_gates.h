// AgentGates: has a backup wait for the words of a coordinator. See docs/design.md, "A cluster at one moment".
//
// heard() and lost() are called by the link's thread, the gates by the backup's. While anything is held a coordinator that is lost, or
// says nothing for two seconds, lets go.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "io/throttle.h"
#include "snapshot/backup/gates.h"
#include "snapshot/cluster/link.h"
#include "snapshot/repository/cut.h"

namespace nodesnap::cluster {

class AgentGates : public BackupGates {
public:
    AgentGates(ClusterLink& link, std::string node);

    void heard(const Json& message);
    void lost(const std::string& why);
    const std::shared_ptr<Throttle::Cap>& cap() const { return cap_; }
    // Whether the coordinator's word has ended the backup, and the program was asked to stop for it.
    bool was_ended() {
        const std::scoped_lock lock(mutex_);
        return ended_.has_value();
    }

    void asked(Repository& repository, const Lease& lease) override;
    CutPart armed(const ArmedBackup& backup, const std::function<void()>& keep_ready, std::function<void()> let_go) override;
    void disarmed() noexcept override;
    void held() override;
    bool snapped(std::int64_t begun_ns, std::int64_t ended_ns, CutPart& part) override;
    void stored(const CutPart& part, std::int64_t downtime_ns, const std::string& doubt) override;
    void failing() noexcept override;

private:
    enum class Patience { kWhile, kWhileHeld };
    // Waits for the word; throws when it won't come. `idle`: called each few seconds meanwhile.
    Json wait_for(const char* word, Patience patience, const std::function<void()>& idle = {});
    std::optional<Json> next(std::int64_t until_ns);
    [[noreturn]] void throw_lost(const std::string& why);
    void propose(const Json& message);

    ClusterLink& link_;
    const std::string node_;
    const std::shared_ptr<Throttle::Cap> cap_ = std::make_shared<Throttle::Cap>(0);

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Json> words_;
    std::optional<std::string> lost_;   // why
    std::optional<std::string> ended_;  // by the coordinator's word: why
    std::function<void()> let_go_;

    Repository* repository_ = nullptr;  // from asked() on
    const Lease* lease_ = nullptr;
    std::optional<CutProposal> proposal_;  // that was stored
    bool is_part_ = false;                 // its snapshot was taken, and it counts on the coordinator's word no more
};

}  // namespace nodesnap::cluster
