#include "snapshot/prune.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/prune/live_packs.h"

namespace nodesnap {
namespace {

constexpr std::size_t kBatch = 128;  // packs removed between two looks at the lease

class Pruner {
public:
    Pruner(const Repository& repository, Progress& progress)
        : repository_(repository), progress_(progress), live_(repository), unfinished_(repository.unfinished_sessions()) {}

    // Until all backups are known: what is not marked then is nobody's.
    void mark() {
        progress_.phase = "finding what backups refer to";
        repository_.for_each_backup([&](const BackupEntry& entry) {
            if (!entry.manifest) {
                throw Error::damaged(
                    repository_.target().describe(entry.object), entry.damage,
                    "what it refers to can't be told, so nothing is removed; run `nodesnap repair`, which also tells how to give "
                    "up a backup that is lost");
            }
            if (!entry.manifest->may_rewrite) {
                throw Error::refused("backup " + entry.manifest->id.hex() + " was made by a newer version of nodesnap",
                                     "prune with that version");
            }
            live_.add(*entry.manifest);
            ++result_.backups;
        });
    }

    // Calls `remove` with batches of objects that nothing refers to.
    void sweep(const std::function<void(const std::vector<std::string>&)>& remove) {
        progress_.phase = "looking for packs that nobody needs";
        for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
            std::vector<std::string> batch;
            repository_.target().list(folder, [&](const ObjectEntry& entry) {
                if (take(entry)) {
                    batch.push_back(entry.name);
                }
            });
            for (std::size_t first = 0; first < batch.size(); first += kBatch) {
                const auto begin = batch.begin() + static_cast<std::ptrdiff_t>(first);
                remove({begin, begin + static_cast<std::ptrdiff_t>(std::min(kBatch, batch.size() - first))});
            }
        }
    }

    PruneResult& result() { return result_; }

private:
    // Whether it is to be removed.
    bool take(const ObjectEntry& entry) {
        const auto name = layout::parse_pack(entry.name);
        if (!name) {
            return false;
        }
        if (live_.contains(name->id)) {
            ++result_.kept_packs;
            result_.kept_bytes += entry.size;
            return false;
        }
        if (unfinished_.contains(name->id.session())) {
            ++result_.unfinished_packs;
            return false;
        }
        ++result_.removed_packs;
        result_.removed_bytes += entry.size;
        return true;
    }

    const Repository& repository_;
    Progress& progress_;
    LivePacks live_;
    std::set<SessionId> unfinished_;
    PruneResult result_;
};

}  // namespace

PruneResult plan_prune(const Repository& repository, Progress& progress) {
    Pruner pruner(repository, progress);
    pruner.mark();
    pruner.sweep([](const std::vector<std::string>&) {});
    return pruner.result();
}

PruneResult run_prune(Repository& repository, const Lease& lease, Progress& progress) {
    repository.refresh(lease);
    // A sleeper that wakes up must not publish what rests on packs that are removed here: its manifest's name is taken by this.
    const std::uint64_t cleared = repository.clear_sessions(lease, {});
    Pruner pruner(repository, progress);
    pruner.mark();
    // A manifest that another removed, and was killed, must not come back after a power cut when its packs are gone.
    repository.target().persist_removals(layout::kBackups);
    fault::step("prune.marked");
    pruner.sweep([&](const std::vector<std::string>& packs) {
        interrupt::throw_if_interrupted();
        lease.check();
        for (const std::string& pack : packs) {
            repository.target().remove(pack);
            fault::step("prune.removed");
        }
    });
    pruner.result().cleared_sessions = cleared;
    return pruner.result();
}

}  // namespace nodesnap
