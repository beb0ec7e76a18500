// The roll: which backups the last `forget` kept, of a repository that keeps receipts. Clients can't write it, so that by it a run notices
// when more than half of what it kept would go, however many were added since. See docs/format.md, "Receipts".
#pragma once

#include <optional>
#include <set>
#include <span>
#include <string>

#include "io/target/target.h"
#include "snapshot/repository/layout.h"

namespace nodesnap {

std::string roll_entry(const layout::ManifestName& name);  // the same for all revisions

// nullopt if there is none, or it can't be read.
std::optional<std::set<std::string>> load_roll(Target& target, const Uuid& repository);
// `kept` ascend. Of more than a thousand only the newest are on it.
void store_roll(Target& target, const Uuid& repository, std::span<const layout::ManifestName> kept);

}  // namespace nodesnap
