// Repair: see verify.h.
#include <algorithm>
#include <set>
#include <span>
#include <vector>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/backup/stored_damage.h"
#include "snapshot/repository/revisions.h"
#include "snapshot/scratch.h"
#include "snapshot/verify.h"
#include "snapshot/verify/pack_ledger.h"
#include "snapshot/verify/repair_pack.h"

namespace nodesnap {
namespace {

class RepositoryRepair {
public:
    RepositoryRepair(Repository& repository, const Lease& lease, Progress& progress)
        : repository_(repository), target_(repository.target()), lease_(lease), progress_(progress) {}

    RepairResult run() {
        progress_.phase = "checking manifests";
        for (const std::string& object : repository_.repair_description(lease_)) {
            add_repaired(result_, object);
        }
        repair_manifests();
        progress_.phase = "checking packs";
        repair_packs();
        return std::move(result_);
    }

private:
    void repair_manifests() {
        for_each_manifest_names(target_, [this](std::span<const layout::ManifestName> names) {
            throw_if_interrupted();
            repair_backup(load_revisions(repository_, names, {}));
        });
    }

    // The highest revision that can be read counts; it ends whole, and alone but for marks.
    void repair_backup(const BackupRevisions& revisions) {
        for (const StoredRevision& mark : revisions.marks) {
            repair_mark(mark);
        }
        if (!revisions.best) {
            if (!revisions.damage.empty()) {
                add_lost(result_, {layout::manifest(revisions.others.back()), revisions.damage, false});
            }
            return;
        }
        const StoredRevision& best = *revisions.best;
        if (best.whole && revisions.best_is_highest()) {
            remove_revisions(repository_, lease_, revisions.others);
        } else if (best.manifest->may_rewrite) {
            replace_revisions(repository_, lease_, revisions, *best.manifest);
            add_repaired(result_, layout::manifest(best.name));
        } else {
            add_lost(result_, {layout::manifest(best.name), "a newer version of nodesnap must repair it", true});
        }
    }

    // In its place, which must never be free: a sleeper that finds it so would publish.
    void repair_mark(const StoredRevision& revision) {
        if (revision.whole) {
            return;
        }
        const std::string object = layout::manifest(revision.name);
        const auto session = session_of_mark(revision.mark->content, object, repository_.info().uuid);
        if (!session) {
            add_lost(result_, {object, "a newer version of nodesnap must repair it", true});
            return;
        }
        lease_.check();
        if (!target_.swap(object, revision.mark->version,
                          encode_void_manifest(repository_.info().uuid, *session, revision.name.revision))) {
            throw Error::locked(target_.describe(object) + " was changed by another", "run the repair again");
        }
        fault::step("repair.marked");
        add_repaired(result_, object);
    }

    // What is known of the pack whose facts are being read.
    struct Pack {
        PackId id;
        layout::PackKind kind = layout::PackKind::kData;
        std::vector<std::uint32_t> generations;
        bool found = false;
        bool needed = false;
    };

    // The listing is sorted by a ledger first: objects come and go while they are repaired.
    void repair_packs() {
        PackLedger ledger(scratch_directory_or_default());
        list_packs(ledger);
        repository_.for_each_backup([&](const BackupEntry& entry) {
            for (const PackId& id : entry.manifest ? entry.manifest->packs : std::vector<PackId>{}) {
                ledger.mentioned(id);
            }
        });
        // Also those that only a forgotten backup's manifest listed.
        const std::optional<Manifest> newest = newest_backup();
        const StoredDamage known = newest ? find_stored_damage(repository_, *newest) : StoredDamage();
        for (const PackId& id : known.needed) {
            ledger.mentioned(id);
        }
        PackRepair packs(repository_, lease_, progress_);
        Pack pack;
        PackFact fact;
        while (ledger.next(fact)) {
            if (fact.id != pack.id) {
                finish_pack(packs, pack);
                pack = {};
                pack.id = fact.id;
            }
            if (fact.kind == PackFact::Kind::kMentioned) {
                pack.needed = true;
                continue;
            }
            if (fact.pack_kind != pack.kind) {
                repair_generations(packs, pack);
                pack.kind = fact.pack_kind;
            }
            pack.generations.push_back(fact.generation);
        }
        finish_pack(packs, pack);
        if (!known.needed.empty()) {
            note_damaged_data(*newest);
        }
    }

    std::optional<Manifest> newest_backup() {
        std::optional<Manifest> newest;
        repository_.for_each_backup_backwards([&](const BackupEntry& entry) {
            newest = entry.manifest;
            return !newest;
        });
        return newest;
    }

    // What is known to be damaged after the repair as before it, beside what has been told as lost.
    void note_damaged_data(const Manifest& newest) {
        const StoredDamage left = find_stored_damage(repository_, newest);
        const auto missing = static_cast<std::uint64_t>(
            std::count_if(left.needed.begin(), left.needed.end(), [this](const PackId& id) { return missing_.contains(id); }));
        result_.damaged_data_packs = left.needed.size() - missing;
        result_.damaged_data_example = result_.damaged_data_packs != 0 ? left.example : "";
    }

    // Packs of unfinished backups are left to who clears up after them.
    void list_packs(PackLedger& ledger) {
        const std::set<SessionId> unfinished = repository_.unfinished_sessions();
        for (const std::string_view folder : {layout::kNodePacks, layout::kDataPacks}) {
            target_.list(folder, [&](const ObjectEntry& entry) {
                const auto name = layout::parse_pack(entry.name);
                if (name && !unfinished.contains(name->id.session())) {
                    ledger.exists(*name, entry.size);
                }
            });
        }
    }

    void repair_generations(PackRepair& packs, Pack& pack) {
        if (!pack.generations.empty()) {
            throw_if_interrupted();
            pack.found = packs.repair(pack.kind, pack.id, pack.generations, result_) || pack.found;
            pack.generations.clear();
        }
    }

    void finish_pack(PackRepair& packs, Pack& pack) {
        repair_generations(packs, pack);
        if (pack.needed && !pack.found && !can_be_opened(pack.id)) {
            missing_.insert(pack.id);
            add_lost(result_, {"pack " + pack.id.hex(), "it is missing, and a backup needs it", false});
        }
    }

    // A listing may lag behind.
    bool can_be_opened(const PackId& id) {
        for (const layout::PackKind kind : {layout::PackKind::kData, layout::PackKind::kNodes}) {
            try {
                PackReader::open(target_, repository_.info().uuid, kind, id, {});
                return true;
            } catch (const Error& error) {
                if (error.status() != ExitStatus::kDamaged) {
                    throw;
                }
            }
        }
        return false;
    }

    Repository& repository_;
    Target& target_;
    const Lease& lease_;
    Progress& progress_;
    std::set<PackId> missing_;
    RepairResult result_;
};

}  // namespace

RepairResult run_repair(Repository& repository, const Lease& lease, Progress& progress) {
    return RepositoryRepair(repository, lease, progress).run();
}

}  // namespace nodesnap
