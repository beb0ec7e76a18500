#include "snapshot/verify.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "io/target/object_name.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/repository/description.h"
#include "snapshot/repository/inventory.h"
#include "snapshot/scratch.h"
#include "snapshot/verify/affected.h"
#include "snapshot/verify/check_plan.h"
#include "snapshot/verify/findings.h"
#include "snapshot/verify/meanwhile.h"
#include "snapshot/verify/pack_ledger.h"
#include "snapshot/verify/packs.h"
#include "snapshot/verify/tree.h"

namespace nodesnap {
namespace {

// One run of verify. What is read goes past the repository's own caches, whose sink is another's.
class Verification {
public:
    Verification(Repository& repository, const VerifyOptions& options, Progress& progress)
        : repository_(repository),
          target_(repository.target()),
          options_(options),
          progress_(progress),
          findings_(result_),
          packs_(target_, repository.info().uuid, findings_.sink()),
          nodes_(packs_, repository.hasher(), findings_.sink()),
          meanwhile_(repository),
          ledger_(scratch_directory_or_default(options.scratch_directory)) {}

    VerifyResult run() {
        check_description();
        list_objects();
        progress_.phase = "checking metadata";
        for_each_chosen([&](const BackupEntry& entry) { check_backup(entry); });
        fault::step("verify.trees-checked");
        check_marks();
        check_inventory();
        check_packs();
        tell_what_went();
        if (findings_.anything_lost()) {
            progress_.phase = "tracing damage";
            for_each_chosen([&](const BackupEntry& entry) {
                if (entry.manifest) {
                    find_affected_files(repository_, *entry.manifest, findings_);
                }
            });
        }
        return std::move(result_);
    }

private:
    static constexpr std::uint64_t kStrangersNamed = 8;

    bool all_backups() const { return options_.backup.empty() && !options_.as_of_ns; }

    void check_description() {
        std::optional<Description> first;
        for (const std::string_view object : {layout::kRepository, layout::kRepositoryCopy}) {
            const StoredDescription copy = load_description_copy(target_, object);
            ++result_.objects;
            if (!copy.description) {
                findings_.add({copy.object, copy.damage.empty() ? "it is missing" : copy.damage, true});
            } else if (first && !(*copy.description == *first)) {
                findings_.add({copy.object, "it doesn't say the same as " + std::string(layout::kRepository), true});
            } else {
                first = copy.description;
            }
        }
    }

    void list_objects() {
        target_.list(layout::kBackups, [&](const ObjectEntry& entry) {
            if (const auto name = layout::parse_manifest(entry.name)) {
                manifests_.push_back(*name);
            } else {
                meet_stranger(entry);
            }
        });
        for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
            target_.list(folder, [&](const ObjectEntry& entry) {
                if (const auto name = layout::parse_pack(entry.name)) {
                    ledger_.exists(*name, entry.size);
                } else {
                    meet_stranger(entry);
                }
            });
        }
        if (strangers_ > kStrangersNamed) {
            findings_.inform(std::to_string(strangers_ - kStrangersNamed) + " more objects have no names of nodesnap's");
        }
    }

    // Every command leaves it alone; it may be a file system's remains, or somebody's copy.
    void meet_stranger(const ObjectEntry& entry) {
        if (++strangers_ <= kStrangersNamed) {
            findings_.inform(entry.name + " isn't a name of nodesnap's: it is left alone");
        }
    }

    void for_each_chosen(const std::function<void(const BackupEntry&)>& each) {
        if (all_backups()) {
            repository_.for_each_backup(each);
            return;
        }
        BackupEntry entry;
        entry.manifest = repository_.find_backup(options_.backup, options_.as_of_ns, [&](const BackupEntry& newer) {
            findings_.add({newer.object, newer.damage, false});
            findings_.affect("the backup of " + newer.object + ": all of it; an older one was checked in its place");
        });
        entry.name = entry.manifest->name;
        entry.object = layout::manifest(entry.name);
        each(entry);
    }

    void check_backup(const BackupEntry& entry) {
        throw_if_interrupted();
        fault::step("verify.backup-listed");
        ++result_.backups;
        backups_.insert({entry.name.sequence, entry.name.utc_seconds});
        if (!entry.manifest) {
            findings_.add({entry.object, entry.damage, false});
            findings_.affect("the backup of " + entry.object + ": all of it");
            return;
        }
        check_revisions(entry);
        stored_bytes_ += entry.manifest->totals.stored_bytes;
        check_tree(entry);
    }

    // A revision that is gone when something of it isn't right was superseded or forgotten meanwhile: then the next one counts, or none.
    void check_tree(BackupEntry entry) {
        for (;;) {
            meanwhile_.saw(entry.name);
            for (const PackId& pack : entry.manifest->packs) {
                ledger_.mentioned(pack);
            }
            VerifyResult result;
            Findings found(result);
            nodes_.observe([this](const SegmentRef& node) { mention_pack_of(node); });
            TreeCheck(nodes_, *entry.manifest, entry.object, scratch_directory_or_default(options_.scratch_directory), ledger_, found,
                      progress_)
                .run();
            nodes_.observe({});
            if (!found.anything() || !meanwhile_.went(entry.name)) {
                findings_.take_over(found);
                return;
            }
            std::optional<BackupEntry> now;
            repository_.for_each_backup([&](const BackupEntry& each) {
                if (each.manifest && each.name.same_backup(entry.name)) {
                    now = each;
                }
            });
            if (!now) {
                if (!all_backups()) {
                    throw Error::failed("the backup " + entry.manifest->id.hex() + " was forgotten while it was verified");
                }
                ++forgotten_;
                return;
            }
            entry = std::move(*now);
        }
    }

    // Also a pack that only later backups than the one that wrote it need.
    void mention_pack_of(const SegmentRef& node) {
        if (node.pack != last_mentioned_) {
            last_mentioned_ = node.pack;
            ledger_.mentioned(node.pack);
        }
    }

    // Both copies of each revision; that one of them is good is known.
    void check_revisions(const BackupEntry& entry) {
        for (const layout::ManifestName& name : manifests_) {
            if (name.same_backup(entry.name)) {
                check_manifest(layout::manifest(name));
            }
        }
    }

    // What lies under manifests' names of which no backup came: the marks of abandoned sessions.
    void check_marks() {
        for (const layout::ManifestName& name : all_backups() ? manifests_ : std::vector<layout::ManifestName>{}) {
            if (!backups_.contains({name.sequence, name.utc_seconds})) {
                check_manifest(layout::manifest(name));
            }
        }
    }

    // Nothing is lost with it: the next backup makes it anew.
    void check_inventory() {
        const StoredInventory stored = load_inventory(target_, repository_.info().uuid);
        ++result_.objects;
        if (!stored.flaw.empty()) {
            findings_.inform(std::string(layout::kInventory) + " can't be used (" + stored.flaw + "): the next backup makes it anew");
        }
        if (!stored.inventory || !all_backups()) {
            return;
        }
        std::set<std::uint64_t> numbers;
        for (const layout::ManifestName& name : manifests_) {
            numbers.insert(name.sequence);
        }
        for (std::uint64_t number = stored.inventory->sequence + 1; !numbers.empty() && number < *numbers.rbegin(); ++number) {
            if (!numbers.contains(number)) {
                findings_.inform("there is no backup number " + std::to_string(number) +
                                 ": unless one of it was interrupted, its manifest has gone without having been forgotten");
                return;
            }
        }
    }

    void check_manifest(const std::string& object) {
        std::vector<Damage> damages;
        try {
            const auto stored = target_.load_salvaging(object, kSmallObjectLimit);
            ++result_.objects;
            if (stored) {
                result_.bytes_read += stored->content.size();
                decode_manifest(stored->content, object, repository_.info().uuid, [&](const Damage& damage) { damages.push_back(damage); });
            }
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
                throw;
            }
            damages.push_back({object, error.message(), false});
        }
        for (Damage& damage : damages) {
            damage.healed = true;  // the other copy served, or another revision
            findings_.add(damage);
        }
    }

    void check_packs() {
        const bool all_data = options_.data && !options_.sample && !options_.since;
        progress_.phase = options_.data ? "reading data" : "checking packs";
        progress_.files_done = 0;
        progress_.bytes_total = stored_bytes_;
        progress_.totals_final = all_data;
        CheckPlan plan(repository_, options_, findings_, progress_, meanwhile_);
        try {
            PackCheck check(repository_, nodes_, plan, meanwhile_, repository_.unfinished_sessions(), result_, findings_, progress_);
            check.run(ledger_, all_backups());
            if (manifests_.empty() && check.unneeded() != 0) {
                findings_.add(
                    {"backups/", "there are packs, but no backup: unless all were forgotten on purpose, their manifests are gone", false});
            }
            plan.finish();
        } catch (...) {
            plan.stop();  // a run that is interrupted keeps what it has checked
            throw;
        }
        result_.bytes_read += plan.bytes_read();
        result_.coverage = plan.coverage();
    }

    void tell_what_went() {
        result_.backups -= forgotten_;
        if (forgotten_ != 0) {
            findings_.inform(std::to_string(forgotten_) + " backups were forgotten while they were checked");
        }
        if (meanwhile_.packs() != 0) {
            findings_.inform(std::to_string(meanwhile_.packs()) +
                             " packs that were to be read were removed meanwhile, after backups had been forgotten");
        }
    }

    Repository& repository_;
    Target& target_;
    const VerifyOptions& options_;
    Progress& progress_;
    VerifyResult result_;
    Findings findings_;
    PackCache packs_;
    NodeReader nodes_;
    Meanwhile meanwhile_;
    PackLedger ledger_;
    PackId last_mentioned_{};
    std::vector<layout::ManifestName> manifests_;
    std::set<std::pair<std::uint64_t, std::int64_t>> backups_;  // sequence and time of those that were checked
    std::uint64_t forgotten_ = 0;                               // of these, while they were checked
    std::uint64_t stored_bytes_ = 0;
    std::uint64_t strangers_ = 0;
};

}  // namespace

VerifyResult run_verify(Repository& repository, const VerifyOptions& options, Progress& progress) {
    return Verification(repository, options, progress).run();
}

}  // namespace nodesnap
