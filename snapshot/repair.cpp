// Repair: see verify.h.
#include <algorithm>
#include <set>
#include <vector>

#include "io/target/object_name.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
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
    // One revision of a manifest as it is stored.
    struct Revision {
        layout::ManifestName name{};
        std::optional<Manifest> manifest;
        std::optional<VersionedObject> mark;  // the mark of an abandoned session
        bool whole = true;                    // both copies are good
        std::string damage;
    };

    void repair_manifests() {
        std::vector<layout::ManifestName> names;
        target_.list(layout::kBackups, [&](const ObjectEntry& entry) {
            if (const auto name = layout::parse_manifest(entry.name)) {
                names.push_back(*name);
            }
        });
        const auto backup = [](const layout::ManifestName& name) { return std::pair(name.sequence, name.utc_seconds); };
        std::sort(names.begin(), names.end(),
                  [&](const auto& a, const auto& b) { return std::pair(backup(a), a.revision) < std::pair(backup(b), b.revision); });
        for (std::size_t first = 0; first < names.size();) {
            std::size_t end = first;
            while (end < names.size() && names[end].same_backup(names[first])) {
                ++end;
            }
            throw_if_interrupted();
            repair_backup({names.begin() + static_cast<std::ptrdiff_t>(first), names.begin() + static_cast<std::ptrdiff_t>(end)});
            first = end;
        }
    }

    Revision load(const layout::ManifestName& name) {
        Revision revision;
        revision.name = name;
        const std::string object = layout::manifest(name);
        try {
            auto stored = target_.load_salvaging(object, kSmallObjectLimit);
            if (stored) {
                revision.manifest =
                    decode_manifest(stored->content, object, repository_.info().uuid, [&](const Damage&) { revision.whole = false; });
                if (!revision.manifest) {
                    revision.mark = std::move(stored);
                }
            }
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
                throw;
            }
            revision.whole = false;
            revision.damage = error.message();
        }
        return revision;
    }

    // `names` are a backup's revisions, the lowest first. The highest that can be read counts; it ends whole, and alone but for marks.
    void repair_backup(const std::vector<layout::ManifestName>& names) {
        std::optional<Revision> best;
        std::vector<layout::ManifestName> others;  // the lowest last
        std::string damage;
        for (auto name = names.rbegin(); name != names.rend(); ++name) {
            Revision revision = load(*name);
            if (revision.mark) {
                repair_mark(revision);
            } else if (revision.manifest && !best) {
                best = std::move(revision);
            } else {
                others.push_back(*name);
                damage = damage.empty() ? revision.damage : damage;
            }
        }
        if (!best) {
            if (!damage.empty()) {
                add_lost(result_, {layout::manifest(others.front()), damage, false});
            }
            return;
        }
        const bool highest = others.empty() || others.front().revision < best->name.revision;
        if (!best->whole || !highest) {
            if (!best->manifest->may_rewrite) {
                add_lost(result_, {layout::manifest(best->name), "a newer version of nodesnap must repair it", true});
                return;
            }
            layout::ManifestName kept = best->name;
            kept.revision = names.back().revision + 1;
            rewrite(*best->manifest, kept);
            others.push_back(best->name);
            add_repaired(result_, layout::manifest(best->name));
        }
        std::sort(others.begin(), others.end(), [](const auto& a, const auto& b) { return a.revision < b.revision; });
        for (const layout::ManifestName& name : others) {
            lease_.check();
            target_.remove(layout::manifest(name));
            fault::step("repair.removed");
        }
    }

    // In its place, which must never be free: a sleeper that finds it so would publish.
    void repair_mark(const Revision& revision) {
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

    void rewrite(Manifest manifest, const layout::ManifestName& name) {
        manifest.name = name;
        lease_.check();
        if (!target_.create(layout::manifest(name), encode_manifest(repository_.info().uuid, manifest))) {
            throw Error::locked("another has written " + target_.describe(layout::manifest(name)), "run the repair again");
        }
        const Revision written = load(name);
        if (!written.manifest || !written.whole) {
            throw Error::failed("the repaired manifest " + target_.describe(layout::manifest(name)) + " can't be read back",
                                "the damaged one was kept; check the repository's storage");
        }
        fault::step("repair.written");
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
    RepairResult result_;
};

}  // namespace

RepairResult run_repair(Repository& repository, const Lease& lease, Progress& progress) {
    return RepositoryRepair(repository, lease, progress).run();
}

}  // namespace nodesnap
