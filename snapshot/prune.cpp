#include "snapshot/prune.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/units.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/prune/candidates.h"
#include "snapshot/prune/compaction.h"
#include "snapshot/prune/pack_state.h"
#include "snapshot/repository/pack_stock.h"
#include "snapshot/repository/use_marks.h"
#include "snapshot/scratch.h"
#include "snapshot/verify/rewrite_pack.h"

namespace nodesnap {
namespace {

constexpr std::size_t kBatch = 128;  // packs removed between two looks at the lease
constexpr unsigned kNever = 100;     // percent

void require_rewritable(const Repository& repository, const BackupEntry& entry) {
    if (!entry.manifest) {
        throw Error::damaged(repository.target().describe(entry.object), entry.damage,
                             "what it refers to can't be told, so nothing is removed; run `nodesnap repair`, which also tells how to give "
                             "up a backup that is lost");
    }
    if (!entry.manifest->may_rewrite) {
        throw Error::refused("backup " + entry.manifest->id.hex() + " was made by a newer version of nodesnap", "prune with that version");
    }
}

void require_all_rewritable(const Repository& repository) {
    repository.for_each_backup([&](const BackupEntry& entry) { require_rewritable(repository, entry); });
}

class Pruner {
public:
    Pruner(const Repository& repository, const PruneOptions& options, Report& report, Progress& progress)
        : repository_(repository),
          options_(options),
          report_(report),
          progress_(progress),
          scratch_(scratch_directory_or_default(options.scratch_directory)),
          unfinished_(repository.unfinished_sessions()),
          ledger_(std::in_place, scratch_),
          candidates_(scratch_) {}

    // Until all backups are known: what is not marked then is nobody's. A revision that was superseded just now is marked too: a restore
    // may be reading it.
    void mark(const MergeResult& merged) {
        result_.merged_files = merged.files;
        result_.merged_bytes = merged.bytes;
        result_.left_fragmented_bytes = merged.left_bytes;
        result_.merge_free_bytes = merged.free_bytes;
        result_.merge_needed_bytes = merged.needed_bytes;
        progress_.phase = "finding what backups refer to";
        for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
            repository_.target().list(folder, [&](const ObjectEntry& entry) {
                if (const auto name = layout::parse_pack(entry.name)) {
                    ledger_->exists(*name, entry.size);
                }
            });
        }
        UseMarks marks(repository_, [this](const Run& run) { ledger_->used(run); });
        const auto add = [&](const Manifest& backup) {
            // What it wrote itself is its own, whether or not anything in it is referred to.
            for (const PackId& pack : backup.packs) {
                ledger_->mentioned(pack);
            }
            marks.add(backup.tree);
        };
        repository_.for_each_backup([&](const BackupEntry& entry) {
            require_rewritable(repository_, entry);
            if (options_.without.contains(entry.manifest->id)) {
                return;
            }
            add(*entry.manifest);
            ++result_.backups;
        });
        if (merged.superseded) {
            add(*merged.superseded);
        }
    }

    // Calls `remove` with batches of objects that nothing refers to, and looks at the other packs.
    void sweep(const std::function<void(const std::vector<std::string>&)>& remove) {
        progress_.phase = "looking for packs that nobody needs";
        std::vector<std::string> batch;
        PackStates states(*ledger_);
        for (PackState pack; states.next(pack);) {
            throw_if_interrupted();
            if (pack.needed()) {
                keep(pack);
            } else if (unfinished_.contains(pack.id.session())) {
                result_.unfinished_packs += pack.generations.size();
            } else if (!pack.ambiguous) {
                require_a_backup();
                result_.removed_packs += pack.generations.size();
                result_.removed_bytes += pack.bytes;
                for (const std::uint32_t generation : pack.generations) {
                    batch.push_back(layout::pack({pack.kind, pack.id, generation}));
                }
            }
            if (batch.size() >= kBatch) {
                remove(batch);
                batch.clear();
            }
        }
        remove(batch);
        ledger_.reset();
        if (!missing_.empty()) {
            report_.warn(std::to_string(missing_.size()) + " packs that backups need are missing (the first: " + missing_.begin()->hex() +
                         "): `nodesnap verify` names the backups, the next backup stores anew what the node still has of them");
        }
    }

    void compact(const Lease& lease, Throttle& throttle) {
        progress_.phase = "rewriting packs of which little is in use";
        progress_.bytes_done = 0;
        progress_.bytes_total = result_.rewritten_bytes;
        progress_.totals_final = true;
        // Counted anew, as it comes about.
        result_.kept_bytes += result_.rewriting_freed_bytes;
        result_.rewritten_packs = result_.rewritten_bytes = result_.rewriting_freed_bytes = 0;
        Compaction compaction(repository_, lease, options_.max_unused_percent, throttle, progress_);
        for (PackState pack; candidates_.next(pack);) {
            throw_if_interrupted();
            take(pack, compaction.run(pack));
        }
        if (result_.left_packs_for_space != 0) {
            report_.warn(std::to_string(result_.left_packs_for_space) + " packs of which little is in use couldn't be rewritten: " +
                         repository_.target().describe() + " has too little space; free some, then run prune again");
        }
    }

    // From here on it is known what is missing and needed: what nobody needs isn't missed any more.
    void take_inventory(const Lease& lease) {
        PackStock stock = take_stock(repository_);
        std::erase_if(stock.lost, [&](const InventoryEntry& lost) { return stock.find(lost.pack) == nullptr; });
        for (const PackId& pack : missing_) {
            stock.lost.push_back({pack, 0, 0});
        }
        store_inventory(repository_, lease, stock);
    }

    PruneResult& result() { return result_; }

private:
    // forget leaves the newest good backup, unless it is told otherwise, and what an unfinished one stored is known as that: so manifests
    // have gone, it may be.
    void require_a_backup() const {
        if (result_.backups == 0 && options_.without.empty() && !options_.allow_no_backup) {
            throw Error::refused(repository_.target().describe() + " holds packs, but no backup, so that all of them would be removed",
                                 "if manifests were lost, put backups/ back from a copy of the repository; if all backups were forgotten "
                                 "on purpose, give --allow-no-backup");
        }
    }

    void keep(const PackState& pack) {
        if (pack.generations.empty()) {
            missing_.insert(pack.id);  // `verify` tells what needs it
            return;
        }
        ++result_.kept_packs;
        result_.kept_bytes += pack.bytes;
        if (pack.ambiguous || options_.max_unused_percent >= kNever) {
            return;
        }
        const auto reader = open(pack);
        if (reader == nullptr || !reader->may_rewrite()) {
            return;
        }
        const CompactionGain gain = gain_of(repository_.info().uuid, *reader, pack.used);
        const bool rewrites = gain.worthwhile(options_.max_unused_percent);
        if (!rewrites) {
            result_.unused_bytes += gain.unused_bytes;
        }
        if (rewrites || pack.generations.size() > 1) {
            const std::uint64_t after = rewrites ? gain.bytes_after : gain.bytes_before;
            count_candidate(rewrites, after, pack.bytes > after ? pack.bytes - after : 0);
            candidates_.add(pack, gain);
        }
    }

    // nullptr if it is damaged.
    std::shared_ptr<const PackReader> open(const PackState& pack) {
        try {
            return PackReader::open(repository_.target(), repository_.info().uuid, pack.kind, pack.id, {});
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
                throw;
            }
            leave_damaged(pack, "it can't be opened");
            return nullptr;
        }
    }

    void count_candidate(bool rewritten, std::uint64_t written_bytes, std::uint64_t freed_bytes) {
        result_.rewritten_packs += rewritten ? 1 : 0;
        result_.rewritten_bytes += rewritten ? written_bytes : 0;
        result_.rewriting_freed_bytes += freed_bytes;
        result_.kept_bytes -= freed_bytes;
    }

    void take(const PackState& pack, const Compaction::Result& compacted) {
        switch (compacted.outcome) {
            case Compaction::Outcome::kDamaged:
                leave_damaged(pack, compacted.flaw);
                break;
            case Compaction::Outcome::kNoSpace:
                ++result_.left_packs_for_space;
                break;
            case Compaction::Outcome::kRewritten:
            case Compaction::Outcome::kOlderRemoved:
                count_candidate(compacted.outcome == Compaction::Outcome::kRewritten, compacted.written_bytes, compacted.freed_bytes);
                break;
            case Compaction::Outcome::kNothingToDo:
                break;
        }
    }

    void leave_damaged(const PackState& pack, const std::string& flaw) {
        ++result_.left_damaged_packs;
        report_.warn(repository_.target().describe(layout::pack({pack.kind, pack.id, pack.generations.back()})) + " is left as it is: " +
                     flaw + "; run `nodesnap repair`, and where that can't heal it, forget the backups that `nodesnap verify` names");
    }

    const Repository& repository_;
    const PruneOptions& options_;
    Report& report_;
    Progress& progress_;
    const std::string scratch_;
    const std::set<SessionId> unfinished_;
    std::optional<PackLedger> ledger_;
    CompactionCandidates candidates_;
    std::set<PackId> missing_;
    PruneResult result_;
};

}  // namespace

PruneResult plan_prune(const Repository& repository, const PruneOptions& options, Report& report, Progress& progress) {
    Pruner pruner(repository, options, report, progress);
    pruner.mark(plan_merge(repository, options.merge, progress, options.without));
    pruner.sweep([](const std::vector<std::string>&) {});
    pruner.result().kept_bytes += pruner.result().merged_bytes;
    return pruner.result();
}

PruneResult run_prune(Repository& repository, const Lease& lease, const PruneOptions& options, Report& report, Progress& progress) {
    repository.refresh(lease);
    // A sleeper that wakes up must not publish what rests on packs that are removed here: its manifest's name is taken by this.
    const std::uint64_t cleared = repository.clear_sessions(lease, {});
    PackRewrite::clear_up(repository.target());
    Throttle throttle(options.limit_bytes_per_second);
    require_all_rewritable(repository);  // before anything is written
    const MergeResult merged =
        run_merge(repository, lease, options.merge, scratch_directory_or_default(options.scratch_directory), throttle, report, progress);
    Pruner pruner(repository, options, report, progress);
    pruner.mark(merged);
    // A manifest that another removed, and was killed, must not come back after a power cut when its packs are gone.
    repository.target().persist_removals(layout::kBackups);
    fault::step("prune.marked");
    pruner.sweep([&](const std::vector<std::string>& packs) {
        lease.check();
        for (const std::string& pack : packs) {
            repository.target().remove(pack);
            fault::step("prune.removed");
        }
    });
    // What gives back space without taking any was first.
    fault::step("prune.swept");
    pruner.compact(lease, throttle);
    pruner.take_inventory(lease);
    pruner.result().cleared_sessions = cleared;
    return pruner.result();
}

}  // namespace nodesnap
