#include "snapshot/repository/revisions.h"

#include <algorithm>
#include <tuple>

#include "io/target/object_name.h"
#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {

StoredRevision load_revision(const Repository& repository, const layout::ManifestName& name, const DamageSink& sink) {
    StoredRevision revision;
    revision.name = name;
    const std::string object = layout::manifest(name);
    try {
        auto stored = repository.target().load_salvaging(object, kSmallObjectLimit);
        if (stored) {
            revision.manifest = decode_manifest(stored->content, object, repository.info().uuid, [&](const Damage& damage) {
                revision.whole = false;
                if (sink) {
                    sink(damage);
                }
            });
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

BackupRevisions load_revisions(const Repository& repository, std::span<const layout::ManifestName> names, const DamageSink& sink) {
    BackupRevisions revisions;
    revisions.highest = names.back();
    for (auto name = names.rbegin(); name != names.rend(); ++name) {
        StoredRevision revision = load_revision(repository, *name, sink);
        if (revision.mark) {
            revisions.marks.push_back(std::move(revision));
        } else if (revision.manifest && !revisions.best) {
            revisions.best = std::move(revision);
        } else if (revision.manifest || !revision.damage.empty()) {
            revisions.others.push_back(*name);
            revisions.damage = revisions.damage.empty() ? revision.damage : revisions.damage;
        }
    }
    std::reverse(revisions.others.begin(), revisions.others.end());
    return revisions;
}

void for_each_manifest_names(Target& target, const std::function<void(std::span<const layout::ManifestName>)>& each) {
    std::vector<layout::ManifestName> names;
    target.list(layout::kBackups, [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_manifest(entry.name)) {
            names.push_back(*name);
        }
    });
    std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
        return std::tie(a.sequence, a.utc_seconds, a.revision) < std::tie(b.sequence, b.utc_seconds, b.revision);
    });
    for (auto first = names.begin(); first != names.end();) {
        const auto end = std::find_if_not(first, names.end(), [&](const auto& name) { return name.same_backup(*first); });
        each({first, end});
        first = end;
    }
}

layout::ManifestName replace_revisions(const Repository& repository, const Lease& lease, const BackupRevisions& revisions,
                                       Manifest changed) {
    changed.name = revisions.best->name;
    changed.name.revision = revisions.highest.revision + 1;
    Target& target = repository.target();
    const std::string object = layout::manifest(changed.name);
    lease.check();
    fault::step("publish.revision-checked");
    if (!target.create(object, encode_manifest(repository.info().uuid, changed))) {
        throw Error::locked("another has written " + target.describe(object), "run it again");
    }
    const StoredRevision written = load_revision(repository, changed.name, {});
    if (!written.manifest || !written.whole) {
        throw Error::failed("the new manifest " + target.describe(object) + " can't be read back",
                            "the one before it was kept; check the repository's storage");
    }
    fault::step("revision.written");
    std::vector<layout::ManifestName> superseded = revisions.others;
    superseded.push_back(revisions.best->name);
    std::sort(superseded.begin(), superseded.end(), [](const auto& a, const auto& b) { return a.revision < b.revision; });
    remove_revisions(repository, lease, superseded);
    return changed.name;
}

void remove_revisions(const Repository& repository, const Lease& lease, std::span<const layout::ManifestName> names) {
    for (const layout::ManifestName& name : names) {
        lease.check();
        repository.target().remove(layout::manifest(name));
        fault::step("revision.removed");
    }
}

}  // namespace nodesnap
