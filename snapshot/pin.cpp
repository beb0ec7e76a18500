#include "snapshot/pin.h"

#include <algorithm>
#include <functional>
#include <span>

#include "platform/error.h"
#include "snapshot/repository/revisions.h"

namespace nodesnap {
namespace {

BackupRevisions revisions_of(const Repository& repository, const Manifest& backup) {
    BackupRevisions found;
    for_each_manifest_names(repository.target(), [&](std::span<const layout::ManifestName> names) {
        if (names.front().same_backup(backup.name)) {
            found = load_revisions(repository, names, {});
        }
    });
    const std::string name = "backup " + backup.id.hex();
    if (!found.best || found.best->manifest->id != backup.id) {
        throw Error::refused(name + " isn't there any more", "`nodesnap list` shows what there is");
    }
    if (!found.best_is_highest()) {
        throw Error::refused(name + " has a later revision that can't be read: " + found.damage, "run `nodesnap repair` first");
    }
    if (!found.best->manifest->may_rewrite) {
        throw Error::refused(name + " has features that this version of nodesnap can read but not write", "upgrade nodesnap");
    }
    return found;
}

// `change` says whether there was anything to change.
PinResult rewrite(Repository& repository, const Lease& lease, const Manifest& backup, const std::function<bool(Manifest&)>& change) {
    repository.refresh(lease);
    // A dead session is given up first: it would take the backup whose manifest is moved to another revision for its own.
    repository.clear_sessions(lease, {});
    const BackupRevisions revisions = revisions_of(repository, backup);
    PinResult result{*revisions.best->manifest, false};
    result.changed = change(result.manifest);
    if (result.changed) {
        result.manifest.name = replace_revisions(repository, lease, revisions, result.manifest);
        lease.renew();  // an unpinned backup must not be a pinned one again after a power cut
    }
    return result;
}

}  // namespace

PinResult pin_backup(Repository& repository, const Lease& lease, const Manifest& backup, const std::string& reason) {
    return rewrite(repository, lease, backup, [&](Manifest& manifest) {
        const bool known = reason.empty() || std::find(manifest.pins.begin(), manifest.pins.end(), reason) != manifest.pins.end();
        if (manifest.pinned && known) {
            return false;
        }
        if (!known && manifest.pins.size() >= kPinsLimit) {
            throw Error::refused("backup " + manifest.id.hex() + " is pinned for " + std::to_string(kPinsLimit) + " reasons already",
                                 "`nodesnap unpin` takes them away");
        }
        manifest.pinned = true;
        if (!known) {
            manifest.pins.push_back(reason);
        }
        return true;
    });
}

PinResult unpin_backup(Repository& repository, const Lease& lease, const Manifest& backup) {
    return rewrite(repository, lease, backup, [](Manifest& manifest) {
        const bool changed = manifest.pinned || !manifest.pins.empty();
        manifest.pinned = false;
        manifest.pins.clear();
        return changed;
    });
}

}  // namespace nodesnap
