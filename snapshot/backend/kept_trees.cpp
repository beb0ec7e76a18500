#include "snapshot/backend/kept_trees.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_space.h"

namespace nodesnap {
namespace {

bool is_used(const StoredTree& tree) {
    return entry::lock_exclusive(tree.directory.get()) == EWOULDBLOCK;
}

std::optional<StoredTree> open_kept(const TreeStore& store, const std::string& on_disk) {
    auto found = store.open(on_disk);
    return found && found->record.kind == kKeptTree ? std::move(found) : std::nullopt;
}

}  // namespace

std::optional<TreeStore> KeptTrees::store() const {
    FileDescriptor folder = place_.layout() == Layout::kFolder ? place_.open_folder(false) : FileDescriptor();
    return folder ? std::optional<TreeStore>(std::in_place, std::move(folder), place_.folder()) : std::nullopt;
}

void KeptTrees::clear_up() const {
    try {
        if (auto trees = store()) {
            trees->clear_up([this](const std::string& name) { return naming_.parse(name).has_value(); });
        }
    } catch (const Error&) {
        throw_if_interrupted();
    }
}

void KeptTrees::add_to(std::vector<SnapshotEntry>& entries) const {
    const auto trees = store();
    if (!trees) {
        return;
    }
    trees->for_each([&](const std::string& on_disk, const StoredTree& found) {
        const auto name = naming_.parse(on_disk);
        if (name && found.record.kind == kKeptTree) {
            entries.push_back({name->given, place_.folder() + "/" + on_disk, found.record.taken_ns, name->temporary, is_used(found)});
        }
    });
}

bool KeptTrees::remove(const std::string& name) const {
    auto trees = store();
    const std::string on_disk = naming_.on_disk(name, false);
    auto found = trees ? open_kept(*trees, on_disk) : std::nullopt;
    if (!found) {
        return false;
    }
    if (is_used(*found)) {
        throw Error::refused("the snapshot \"" + name + "\" of " + place_.node_directory() + " is in use by a running rollback",
                             "wait until that has ended");
    }
    trees->remove(on_disk, std::move(found->directory));
    return true;
}

std::optional<HeldSpace> KeptTrees::held_space(const std::string& name) const {
    const auto trees = store();
    const auto found = trees ? open_kept(*trees, naming_.on_disk(name, false)) : std::nullopt;
    if (!found) {
        return std::nullopt;
    }
    return clone_space(open_at(found->directory.get(), kTreeName, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).get());
}

}  // namespace nodesnap
