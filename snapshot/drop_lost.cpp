// drop_lost_backups(): see verify.h.
#include <vector>

#include "io/target/object_name.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/verify.h"

namespace nodesnap {
namespace {

// A manifest, or a mark, that can't be read.
struct Remains {
    layout::ManifestName name{};
    VersionedObject stored;
};

layout::ManifestName name_of(const std::string& object) {
    const auto name = layout::parse_manifest(object);
    if (!name) {
        throw Error::usage("\"" + object + "\" is not the name of a manifest", "give it as `nodesnap list` and `nodesnap repair` show it");
    }
    return *name;
}

// Whether it is damaged beyond healing. Error::refused if it can be read.
bool is_lost(const VersionedObject& stored, const std::string& object, const Repository& repository) {
    try {
        if (const auto manifest = decode_manifest(stored.content, object, repository.info().uuid, [](const Damage&) {})) {
            throw Error::refused("the backup of " + object + " isn't lost: the manifest of " + manifest->id.hex() + " can be read",
                                 "only what no copy can heal is dropped");
        }
        return false;  // a mark, which voids its own revision only
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        return true;
    }
}

// All revisions of one backup, none of which can be read.
std::vector<Remains> remains_of(const Repository& repository, const std::string& object) {
    const layout::ManifestName named = name_of(object);
    Target& target = repository.target();
    std::vector<Remains> found;
    target.list(layout::kBackups, [&](const ObjectEntry& entry) {
        const auto name = layout::parse_manifest(entry.name);
        if (!name || !name->same_backup(named)) {
            return;
        }
        auto stored = target.load_salvaging(entry.name, kSmallObjectLimit);
        if (stored && is_lost(*stored, entry.name, repository)) {
            found.push_back({*name, std::move(*stored)});
        }
    });
    if (found.empty()) {
        throw Error::refused("there is no lost manifest " + target.describe(object), "`nodesnap list` names those that can't be read");
    }
    return found;
}

// What is left of it is kept under another name, for whoever can make something of it. The mark that takes its place is no session's: it
// only keeps the name from being free, where a sleeper could publish.
void put_aside(const Repository& repository, const Lease& lease, const Remains& remains) {
    Target& target = repository.target();
    const std::string object = layout::manifest(remains.name);
    lease.check();
    target.create(layout::remains(object), remains.stored.content);  // it is there already if this was cut off below
    fault::step("drop.kept");
    lease.check();
    if (!target.swap(object, remains.stored.version,
                     encode_void_manifest(repository.info().uuid, SessionId::random(), remains.name.revision))) {
        throw Error::locked(target.describe(object) + " was changed by another", "run the repair again");
    }
    fault::step("drop.marked");
}

}  // namespace

std::vector<std::string> drop_lost_backups(Repository& repository, const Lease& lease, const std::vector<std::string>& objects) {
    std::vector<Remains> all;
    for (const std::string& object : objects) {
        for (Remains& remains : remains_of(repository, object)) {
            all.push_back(std::move(remains));
        }
    }
    // Which packs they had can't be told: the next backup goes through the tree that it builds on.
    repository.target().remove(layout::kInventory);
    std::vector<std::string> dropped;
    for (const Remains& remains : all) {
        put_aside(repository, lease, remains);
        dropped.push_back(layout::manifest(remains.name));
    }
    return dropped;
}

}  // namespace nodesnap
