#include "snapshot/backup/stored_damage.h"

#include <algorithm>
#include <map>
#include <set>

#include "platform/error.h"
#include "snapshot/repository/check_record.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/use_marks.h"

namespace nodesnap {
namespace {

constexpr std::size_t kAvoidedLimit = 4096;
constexpr std::size_t kBackupsNotInventoried = 32;  // whose manifests are read by each backup

using Flaws = std::map<PackId, std::string>;

void add_recorded(const Repository& repository, const PackStock& stock, std::uint8_t first_byte, Flaws& flaws) {
    try {
        const auto object = repository.target().load(layout::checks(first_byte), kCheckRecordLimit);
        if (!object) {
            return;
        }
        for (const PackCheckup& checkup : parse_check_record(object->content, repository.info().uuid, first_byte).checkups) {
            const InventoryEntry* present = stock.find(checkup.pack);
            if (checkup.damaged && (present == nullptr || present->generation == checkup.generation)) {
                flaws.emplace(checkup.pack, present == nullptr ? "it is missing" : "`nodesnap verify` found it damaged");
            }
        }
    } catch (const Error&) {  // a record that can't be read tells nothing
    }
}

Flaws all_flaws(const Repository& repository, const PackStock& stock) {
    Flaws flaws;
    for (const InventoryEntry& lost : stock.lost) {
        const InventoryEntry* present = stock.find(lost.pack);
        flaws.emplace(lost.pack, present == nullptr
                                     ? "it is missing"
                                     : "it has " + std::to_string(present->bytes) + " bytes instead of " + std::to_string(lost.bytes));
    }
    std::set<std::string> records;
    repository.target().list(layout::kChecks, [&](const ObjectEntry& entry) { records.insert(entry.name); });
    for (unsigned byte = 0; byte < 256; ++byte) {
        if (records.contains(layout::checks(static_cast<std::uint8_t>(byte)))) {
            add_recorded(repository, stock, static_cast<std::uint8_t>(byte), flaws);
        }
    }
    return flaws;
}

// Those of `packs` that the tree refers to; all, where it can't be told.
std::set<PackId> needed_by(const Repository& repository, const TreeRoot& tree, const std::set<PackId>& packs) {
    std::set<PackId> needed;
    try {
        UseMarks marks(repository, [&](const Run& run) {
            if (packs.contains(run.pack)) {
                needed.insert(run.pack);
            }
        });
        marks.add(tree);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
        return packs;
    }
    return needed;
}

}  // namespace

PackStock take_stock_for_backup(const Repository& repository, const Lease& lease, const Manifest* parent, bool resumes, Report& report) {
    PackStock stock = take_stock(repository);
    if (stock.last_sequence == 0 && !stock.present.empty() && !resumes) {
        report.warn("there are packs in " + repository.target().describe() +
                    ", but no backup: if manifests were lost, put backups/ back before the next `nodesnap prune` removes them");
    }
    const bool completed = !stock.complete && parent != nullptr;
    if (completed) {
        complete_stock(repository, *parent, stock);
    }
    const bool due = (completed && stock.complete) || stock.backups_not_inventoried > kBackupsNotInventoried;
    // Where a key may only append it may say that there is nothing yet; what there is, forget and prune say on the host.
    if (stock.last_sequence == 0 || (due && !repository.keeps_receipts())) {
        store_inventory(repository, lease, stock);
    }
    return stock;
}

std::string StoredDamage::reason() const {
    return "the last backup refers to " + std::to_string(needed.size()) + (needed.size() == 1 ? " pack that is" : " packs that are") +
           " missing or damaged";
}

StoredDamage find_stored_damage(const Repository& repository, const PackStock& stock, const Manifest* parent) {
    const Flaws flaws = all_flaws(repository, stock);
    StoredDamage damage;
    std::set<PackId> doubtful;
    for (const auto& [pack, flaw] : flaws) {
        damage.packs.push_back(pack);
        if (parent != nullptr && !std::binary_search(parent->avoided_packs.begin(), parent->avoided_packs.end(), pack)) {
            doubtful.insert(pack);
        }
    }
    const std::set<PackId> needed = doubtful.empty() ? std::set<PackId>() : needed_by(repository, parent->tree, doubtful);
    damage.needed.assign(needed.begin(), needed.end());
    if (!needed.empty()) {
        damage.example = "pack " + needed.begin()->hex() + ": " + flaws.at(*needed.begin());
    }
    return damage;
}

StoredDamage find_stored_damage(const Repository& repository, const Manifest& backup) {
    PackStock stock = take_stock(repository);
    if (!stock.complete) {
        complete_stock(repository, backup, stock);
    }
    return find_stored_damage(repository, stock, &backup);
}

std::vector<PackId> avoided_packs(const StoredDamage& damage) {
    return damage.packs.size() <= kAvoidedLimit ? damage.packs : std::vector<PackId>();
}

}  // namespace nodesnap
