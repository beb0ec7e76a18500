// The revisions of one backup's manifest as they are stored, and how one takes the place of another.
//
// The highest valid revision counts, so a new one is written, and read back, before any other is removed, and those go lowest first: at no
// instant does an older one count again. Marks (VOID) are no revisions of the backup; nothing here removes one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "snapshot/repository/repository.h"

namespace nodesnap {

struct StoredRevision {
    layout::ManifestName name{};
    std::optional<Manifest> manifest;
    std::optional<VersionedObject> mark;  // the mark of an abandoned session
    bool whole = true;                    // both copies are good
    std::string damage;                   // why it can't be read
};
// Error if something other than damage keeps it from being read. What is damaged and healed goes to `sink`.
StoredRevision load_revision(const Repository& repository, const layout::ManifestName& name, const DamageSink& sink);

struct BackupRevisions {
    std::optional<StoredRevision> best;        // the highest that can be read: what the backup is
    std::vector<layout::ManifestName> others;  // but for marks, ascending; some may be damaged
    std::vector<StoredRevision> marks;         // descending
    std::string damage;                        // of the highest of the others that is damaged
    layout::ManifestName highest{};            // of all, marks too
    bool best_is_highest() const { return best && (others.empty() || others.back().revision < best->name.revision); }
};
// `names` are all that one backup has, ascending.
BackupRevisions load_revisions(const Repository& repository, std::span<const layout::ManifestName> names, const DamageSink& sink);

// The names that each backup has, ascending; backups in ascending order of (sequence, UTC). Memory: 24 bytes for each name.
void for_each_manifest_names(Target& target, const std::function<void(std::span<const layout::ManifestName>)>& each);

// Publishes `changed` as the backup's next revision, then removes the others; `revisions.best` must be there and rewritable. Checks the
// lease before each step. Error::locked if another wrote meanwhile; Error::failed if what was written can't be read back: nothing is
// removed then. Killed in the middle it leaves both, and the newer counts. Returns the new name.
layout::ManifestName replace_revisions(const Repository& repository, const Lease& lease, const BackupRevisions& revisions,
                                       Manifest changed);
// Removes these revisions, in this order; checks the lease before each.
void remove_revisions(const Repository& repository, const Lease& lease, std::span<const layout::ManifestName> names);

}  // namespace nodesnap
