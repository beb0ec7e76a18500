// What is known of damage in what a backup takes over from earlier ones, without reading any of that: packs that are missing or cut off,
// and those that `verify` found damaged.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "snapshot/report.h"
#include "snapshot/repository/pack_stock.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// What is there for a backup to build on, as complete as `parent` (may be a nullptr) makes it, and inventoried anew where that is due.
// `resumes`: a backup that was cut off is gone on with.
PackStock take_stock_for_backup(const Repository& repository, const Lease& lease, const Manifest* parent, bool resumes, Report& report);

struct StoredDamage {
    std::vector<PackId> packs;   // in ascending order
    std::vector<PackId> needed;  // of these, by the backup that was asked about
    std::string example;         // one of those, and what is wrong with it
    std::string reason() const;  // why the backup can't be built on as it is, where any is needed
};

// Goes through the parent's tree only if anything is damaged that it isn't known to do without. With `parent` a nullptr nothing is needed.
StoredDamage find_stored_damage(const Repository& repository, const PackStock& stock, const Manifest* parent);

// The same of all that is known, for who doesn't write.
StoredDamage find_stored_damage(const Repository& repository, const Manifest& backup);

// As the manifest of a backup says it: that it does without them. None, where they are too many to be listed.
std::vector<PackId> avoided_packs(const StoredDamage& damage);

}  // namespace nodesnap
