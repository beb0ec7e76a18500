#include "snapshot/forget.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/backup/stored_damage.h"
#include "snapshot/repository/backup_id.h"
#include "snapshot/repository/cut.h"
#include "snapshot/repository/pack_stock.h"
#include "snapshot/repository/receipt.h"
#include "snapshot/repository/revisions.h"
#include "snapshot/repository/roll.h"

namespace nodesnap {
namespace {

constexpr const char* kLatest = "latest";

// Facts about one backup; nullopt if there is none but marks.
std::optional<ForgetPlan::Backup> look_at(const Repository& repository, std::span<const layout::ManifestName> names) {
    BackupRevisions revisions = load_revisions(repository, names, repository.damage_sink());
    ForgetPlan::Backup backup;
    if (!revisions.best) {
        if (revisions.others.empty()) {
            return std::nullopt;
        }
        backup.name = revisions.others.back();
        backup.damage = revisions.damage;
        backup.facts.readable = backup.facts.good = false;
        backup.facts.sequence = backup.name.sequence;
        backup.facts.utc_ns = backup.name.utc_seconds * 1'000'000'000;
        return backup;
    }
    backup.snapshot_ns = revisions.best->manifest->snapshot_time_ns;
    if (!revisions.damage.empty() && repository.damage_sink()) {
        repository.damage_sink()({layout::manifest(revisions.highest), revisions.damage, true});
    }
    Manifest& manifest = *revisions.best->manifest;
    backup.name = revisions.best->name;
    backup.facts = {manifest.id, manifest.name.sequence, manifest.snapshot_time_ns, std::move(manifest.tags),
                    true,        !manifest.damaged,      manifest.pinned,           std::nullopt};
    if (!revisions.best_is_highest()) {
        // It may have been pinned in the revision that can't be read.
        backup.damage = revisions.damage;
        backup.facts.held = KeepRule::kUnreadable;
    } else if (!manifest.may_rewrite) {
        backup.facts.held = KeepRule::kNewerVersion;
    }
    backup.cut = manifest.cut ? std::optional(manifest.cut->cut) : std::nullopt;
    backup.superseded = std::move(revisions.others);
    return backup;
}

class Planner {
public:
    Planner(const Repository& repository, const ForgetOptions& options, Report& report)
        : repository_(repository), options_(options), report_(report) {}

    ForgetPlan plan() {
        const Receipts receipts = Receipts::load(repository_.target(), repository_.info().uuid, [this](const std::string& damage) {
            report_.warn("a receipt can't be read, and its backup is kept: " + damage);
        });
        for_each_manifest_names(repository_.target(), [&](std::span<const layout::ManifestName> names) {
            throw_if_interrupted();
            if (auto backup = look_at(repository_, names)) {
                if (backup->cut && !backup->facts.held && !options_.cluster_members && !forgotten_.contains(*backup->cut)) {
                    backup->facts.held = KeepRule::kCluster;
                }
                plan_.unreadable += backup->facts.readable ? 0 : 1;
                go_by_receipt(receipts, *backup);
                facts_.push_back(backup->facts);
                plan_.backups.push_back(std::move(*backup));
            }
        });
        if (options_.backups.empty()) {
            apply_rules();
        } else {
            apply_names();
        }
        plan_.removed = static_cast<std::size_t>(
            std::count_if(plan_.backups.begin(), plan_.backups.end(), [](const auto& backup) { return backup.reasons.empty(); }));
        compare_with_roll();
        return std::move(plan_);
    }

private:
    static void go_by_receipt(const Receipts& receipts, ForgetPlan::Backup& backup) {
        if (const Receipt* receipt = receipts.find(backup.name)) {
            backup.facts.utc_ns = receipt->received_ns;
            backup.facts.received = true;
        } else if (receipts.is_unreadable(backup.name) && !backup.facts.held) {
            backup.facts.held = KeepRule::kReceipt;
        }
    }

    void compare_with_roll() {
        const auto roll = repository_.keeps_receipts() ? load_roll(repository_.target(), repository_.info().uuid) : std::nullopt;
        for (const ForgetPlan::Backup& backup : plan_.backups) {
            if (roll && roll->contains(roll_entry(backup.name))) {
                ++plan_.kept_before;
                plan_.removed_of_them += backup.reasons.empty() ? 1 : 0;
            }
        }
    }

    void apply_rules() {
        auto verdicts = apply_retention(options_.rules, facts_, utc_now_ns());
        for (std::size_t i = 0; i < verdicts.size(); ++i) {
            plan_.backups[i].reasons = std::move(verdicts[i]);
        }
    }

    void apply_names() {
        const std::optional<std::size_t> newest = newest_of(facts_);
        std::set<std::size_t> named;
        std::vector<std::string> missing;
        for (const std::string& name : options_.backups) {
            if (const auto found = find(name, newest)) {
                require_removable(*found, found == newest);
                named.insert(*found);
            } else {
                missing.push_back(name);
            }
        }
        if (named.empty()) {
            throw Error::refused("the repository " + repository_.target().describe() + " has no backup " + missing.front(),
                                 "`nodesnap list` shows what there is");
        }
        // An earlier run that was cut off may have removed it.
        for (const std::string& name : missing) {
            report_.warn("there is no backup " + name + " (any more)");
        }
        for (std::size_t i = 0; i < plan_.backups.size(); ++i) {
            if (!named.contains(i)) {
                plan_.backups[i].reasons = {{facts_[i].readable ? KeepRule::kNotNamed : KeepRule::kUnreadable}};
            }
        }
    }

    std::optional<std::size_t> find(const std::string& name, const std::optional<std::size_t>& newest) const {
        if (name == kLatest) {
            return newest;
        }
        BackupId wanted(name);
        std::optional<std::size_t> found;
        for (std::size_t i = 0; i < facts_.size(); ++i) {
            if (facts_[i].readable && wanted.offer(facts_[i].id)) {
                found = i;
            }
        }
        return wanted.result() ? found : std::nullopt;
    }

    void require_removable(std::size_t index, bool newest) const {
        const RetentionBackup& backup = facts_[index];
        const std::string name = "backup " + backup.id.hex();
        if (backup.pinned) {
            throw Error::refused(name + " is pinned", "`nodesnap show` tells why; `nodesnap unpin` takes the pin away");
        }
        if (backup.held == KeepRule::kUnreadable) {
            throw Error::refused(name + " has a later revision that can't be read: " + plan_.backups[index].damage,
                                 "run `nodesnap repair` first");
        }
        if (backup.held == KeepRule::kCluster) {
            throw Error::refused(
                name + " is a part of the cluster backup " + plan_.backups[index].cut->text() + ", which would be incomplete without it",
                "`nodesnap cluster forget` removes all of it; --cluster-members removes this part alone");
        }
        if (backup.held == KeepRule::kNewerVersion) {
            throw Error::refused(name + " has features that this version of nodesnap mustn't remove", "upgrade nodesnap");
        }
        if (newest && !options_.allow_newest) {
            throw Error::refused(name + (backup.good ? " is the newest good one" : " is the newest, and none is good"),
                                 "make a new backup first; if it must go now, give --allow-newest");
        }
    }

    const Repository& repository_;
    const ForgetOptions& options_;
    Report& report_;
    const std::set<CutId> forgotten_ = forgotten_cuts(repository_);
    ForgetPlan plan_;
    std::vector<RetentionBackup> facts_;
};

// A backup whose session object is still there must keep its manifest: who clears up after a session without one takes it for dead, and
// removes its packs, on which later backups may rest. So must one that a backup that was cut off builds on, and may go on to.
void keep_unfinished(const Repository& repository, const ForgetOptions& options, ForgetPlan& plan, Report& report) {
    const std::set<SessionId> sessions = repository.session_ids();
    std::set<SessionId> parents;
    for (const Manifest& draft : repository.drafts()) {
        if (draft.parent) {
            parents.insert(*draft.parent);
        }
    }
    for (ForgetPlan::Backup& backup : plan.backups) {
        const bool parent = parents.contains(backup.facts.id);
        if (!backup.reasons.empty() || (!parent && !sessions.contains(backup.facts.id))) {
            continue;
        }
        backup.reasons.push_back({parent ? KeepRule::kBuiltOn : KeepRule::kUnfinished});
        --plan.removed;
        if (!options.backups.empty()) {
            report.warn("backup " + backup.facts.id.hex() + " stays: " +
                        (parent ? "a backup that was cut off builds on it; run that again first, or clear it up with --no-resume"
                                : "its snapshot isn't cleared up yet; the next backup does that, then it can be removed"));
        }
    }
}

// The manifests that go say which packs there should be, and later backups may need them.
void take_inventory(const Repository& repository, const Lease& lease, const ForgetPlan& plan) {
    PackStock stock = take_stock(repository);
    if (!stock.complete) {
        // Then the next backup goes through the tree that it builds on.
        repository.target().remove(layout::kInventory);
        return;
    }
    stock.last_sequence = 0;  // the next backup's may be that of one that goes
    for (const ForgetPlan::Backup& backup : plan.backups) {
        if (!backup.reasons.empty()) {
            stock.last_sequence = std::max(stock.last_sequence, backup.facts.sequence);
        }
    }
    store_inventory(repository, lease, stock);
}

// Earlier revisions go first, durably: a power cut must not bring one of them back in the place of the one that counts. An earlier run that
// was killed may have removed some of them.
void remove_planned(const Repository& repository, const Lease& lease, const ForgetPlan& plan) {
    // Without its manifest, a backup whose session object came back after a power cut would be taken for a dead one.
    repository.target().persist_removals(layout::kJournal);
    for (const ForgetPlan::Backup& backup : plan.backups) {
        if (backup.reasons.empty() && !backup.superseded.empty()) {
            remove_revisions(repository, lease, backup.superseded);
        }
    }
    repository.target().persist_removals(layout::kBackups);
    fault::step("forget.superseded-removed");
    for (const ForgetPlan::Backup& backup : plan.backups) {
        if (backup.reasons.empty()) {
            throw_if_interrupted();
            remove_revisions(repository, lease, {&backup.name, 1});
            repository.target().remove(layout::receipt(backup.name));
            fault::step("forget.removed");
        }
    }
    repository.target().persist_removals(layout::kBackups);
}

// What the next run is to compare with. Whoever is named explicitly goes by an operator's word.
void call_roll(const Repository& repository, const Lease& lease, const ForgetPlan& plan) {
    if (!repository.keeps_receipts()) {
        return;
    }
    std::vector<layout::ManifestName> kept;
    for (const ForgetPlan::Backup& backup : plan.backups) {
        if (!backup.reasons.empty()) {
            kept.push_back(backup.name);
        }
    }
    lease.check();
    store_roll(repository.target(), repository.info().uuid, kept);
}

// What is known as lost of the newest good backup: empty if nothing is. With it go the backups that still have what it lacks.
std::string flaw_of_newest(const Repository& repository) {
    std::optional<Manifest> newest;
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        if (entry.manifest && !entry.manifest->damaged) {
            newest = *entry.manifest;
        }
        return !newest;
    });
    const StoredDamage damage = newest ? find_stored_damage(repository, *newest) : StoredDamage();
    return damage.needed.empty() ? "" : damage.reason() + " (" + damage.example + "), and cannot be restored whole";
}

constexpr const char* kHealFirst = "make a new backup first: it stores anew what the node still has";

}  // namespace

void check_request(const ForgetOptions& options) {
    if (options.rules.empty() && options.backups.empty()) {
        throw Error::usage("neither a rule nor a backup is given, and without any all backups would go",
                           "give at least one --keep-... option, or name the backups to remove");
    }
    if (!options.rules.empty() && !options.backups.empty()) {
        throw Error::usage("backups are removed by name or by --keep-... rules, not by both");
    }
    if (options.allow_newest && options.backups.empty()) {
        throw Error::usage("--allow-newest goes with backups that are named", "no rule removes the newest good backup");
    }
    for (const std::string& name : options.backups) {
        if (name != kLatest) {
            const BackupId check(name);
        }
    }
}

ForgetPlan plan_forget(const Repository& repository, const ForgetOptions& options, Report& report) {
    check_request(options);
    ForgetPlan plan = Planner(repository, options, report).plan();
    keep_unfinished(repository, options, plan, report);
    const std::string flaw = plan.removed == 0 ? "" : flaw_of_newest(repository);
    if (!flaw.empty()) {
        report.warn(flaw + "; " + kHealFirst);
    }
    return plan;
}

ForgetResult run_forget(Repository& repository, const Lease& lease, const ForgetOptions& options, Report& report) {
    check_request(options);
    repository.refresh(lease);
    ForgetResult result;
    result.plan = Planner(repository, options, report).plan();
    if (result.plan.is_mass_expiry() && !options.allow_mass_expire) {
        throw Error::refused("this would remove " + std::to_string(result.plan.removed) + " of " +
                                 std::to_string(result.plan.backups.size()) + " backups, more than half",
                             "--dry-run shows which and why; if it is meant, give --allow-mass-expire");
    }
    const std::string flaw = result.plan.removed == 0 ? "" : flaw_of_newest(repository);
    if (!flaw.empty() && options.backups.empty()) {
        throw Error::refused(flaw, std::string(kHealFirst) + ", or name the backups that are to go");
    }
    if (!flaw.empty()) {
        report.warn(flaw + "; " + kHealFirst);
    }
    result.cleared_sessions = repository.clear_sessions(lease, {});
    keep_unfinished(repository, options, result.plan, report);
    if (result.plan.removed != 0) {
        take_inventory(repository, lease, result.plan);
        remove_planned(repository, lease, result.plan);
    }
    call_roll(repository, lease, result.plan);
    return result;
}

}  // namespace nodesnap
