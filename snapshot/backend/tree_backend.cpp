#include "snapshot/backend/tree_backend.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_space.h"
#include "snapshot/backend/link_space.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/drain/change_scan.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

TreeBackend::TreeBackend(TreePlace place, ExcludeRules excludes, const BackendOptions& options, std::string reason)
    : place_(std::move(place)),
      excludes_(std::move(excludes)),
      options_(options),
      naming_(place_.node_directory()),
      reason_(std::move(reason)) {}

std::string TreeBackend::why_no_changes() const {
    return place_.in_memory() ? "a snapshot of the root of a mount has no names there, and ends with its backup" : "";
}

void TreeBackend::prepare() {
    // What the preflight found may have changed since.
    refuse_nested(place_.node_directory(), excludes_);
    const auto store = this->store(true);
    clear_up(*store);
    const FileDescriptor node = open_path(place_.node_directory(), O_RDONLY | O_DIRECTORY);
    // The first flush writes what has gathered, the second the little that came meanwhile: a file is flushed before it is cloned.
    sync_file_system(node.get(), place_.node_directory());
    prepare_more(*store, node.get());
    sync_file_system(node.get(), place_.node_directory());
    prepared_ = true;
}

std::unique_ptr<Snapshot> TreeBackend::create(const std::string& name, bool temporary) {
    const std::string on_disk = naming_.on_disk(name, temporary);
    if (!std::exchange(prepared_, false)) {
        prepare();
    }
    const auto store = this->store(true);
    for (const bool other : {false, true}) {
        if (store->exists(naming_.on_disk(name, other))) {
            throw Error::refused("a snapshot named \"" + name + "\" of " + place_.node_directory() + " exists already",
                                 "choose another name, or remove it with nodesnap snapshot remove");
        }
    }
    const bool used_before = !options_.held && is_in_use(ExitStatus::kRefused);
    const std::int64_t since_ns = options_.held ? 0 : next_stamp_ns();
    const FileDescriptor node = open_path(place_.node_directory(), O_RDONLY | O_DIRECTORY);

    TreeRecord record;
    record.kind = this->name();
    record.id = Uuid::random();
    record.name = without_temporary(on_disk);
    record.node_directory = place_.node_directory();
    record.file_system_uuid = place_.file_system_uuid();
    record.root_ino = stat_fd(node.get()).stx_ino;
    record.taken_ns = utc_now_ns();
    record.excludes = excludes_.patterns();
    const std::int64_t begun_ns = monotonic_ns();
    auto snapshot = std::make_unique<TreeSnapshot>(store, on_disk, SnapshotEntry{name, path_of_stored(on_disk), 0, temporary},
                                                   begin(*store, on_disk), std::move(record), false);
    fill(node.get(), *snapshot);
    const std::int64_t duration_ns = monotonic_ns() - begun_ns;
    fault::step("snapshot.cloned");
    const bool inconsistent = !options_.held && (used_before || is_in_use(ExitStatus::kFailed) || was_changed(node.get(), since_ns));
    snapshot->taken(duration_ns, inconsistent ? Consistency::kInconsistent : Consistency::kPointInTime);
    if (!options_.held) {
        snapshot->settle();
    }
    return snapshot;
}

std::unique_ptr<Snapshot> TreeBackend::find(const std::string& name, const SnapshotProof& proof) {
    const auto store = this->store(false);
    if (!store || proof.backend != this->name() || proof.file_system_uuid != place_.file_system_uuid()) {
        return nullptr;
    }
    for (const bool temporary : {true, false}) {
        const std::string on_disk = naming_.on_disk(name, temporary);
        auto found = store->open(on_disk);
        if (!found) {
            continue;
        }
        if (!lock_for_use(found->directory.get()) || !store->is_still_there(on_disk, found->directory.get())) {
            return nullptr;
        }
        auto snapshot = std::make_unique<TreeSnapshot>(store, on_disk, SnapshotEntry{name, path_of_stored(on_disk), 0, temporary},
                                                       std::move(found->directory), std::move(found->record), true);
        if (!snapshot->open_tree()) {
            return nullptr;
        }
        SnapshotProof now = snapshot->proof();
        now.path = proof.path;  // it may have been given another name, or be seen by another way
        return now == proof ? std::move(snapshot) : nullptr;
    }
    return nullptr;
}

std::string TreeBackend::flaw_of(const std::string& name, const SnapshotProof& proof) {
    const auto store = this->store(false);
    for (const bool temporary : {true, false}) {
        const std::string on_disk = naming_.on_disk(name, temporary);
        if (!store || !store->exists(on_disk)) {
            continue;
        }
        const auto found = store->open(on_disk);
        if (!found) {
            return "was replaced by what is no snapshot";
        }
        if (found->record.id != proof.subvolume_uuid) {
            return "was replaced by another one";
        }
        const FileDescriptor tree(try_open_long(found->directory.get(), kTreeName, kDirectory));
        return is_tree_of(tree.get(), found->record) ? "can't be opened" : "was replaced by a copy of it";
    }
    return "";
}

std::string TreeBackend::path_of(const std::string& name) const {
    return path_of_stored(naming_.on_disk(name, true));
}

std::vector<SnapshotEntry> TreeBackend::list() {
    std::vector<SnapshotEntry> entries;
    const auto store = this->store(false);
    if (!store) {
        return entries;
    }
    try {
        clear_up(*store);
    } catch (const Error&) {
        throw_if_interrupted();  // who may not do that can list all the same
    }
    store->for_each([&](const std::string& on_disk, const StoredTree& found) {
        if (const auto name = naming_.parse(on_disk)) {
            entries.push_back({name->given, path_of_stored(on_disk), found.record.taken_ns, name->temporary,
                               entry::lock_exclusive(found.directory.get()) == EWOULDBLOCK});
        }
    });
    std::sort(entries.begin(), entries.end(), [](const SnapshotEntry& a, const SnapshotEntry& b) {
        return std::pair(a.created_ns, a.name) < std::pair(b.created_ns, b.name);
    });
    return entries;
}

void TreeBackend::remove(const std::string& name) {
    if (const auto store = this->store(false)) {
        for (const bool temporary : {false, true}) {
            const std::string on_disk = naming_.on_disk(name, temporary);
            if (auto found = store->open(on_disk)) {
                if (entry::lock_exclusive(found->directory.get()) == EWOULDBLOCK) {
                    throw Error::refused("the snapshot \"" + name + "\" of " + place_.node_directory() + " is in use by a running backup",
                                         "wait until that backup has ended");
                }
                return store->remove(on_disk, std::move(found->directory));
            }
        }
    }
    throw Error::refused("there is no snapshot named \"" + name + "\" of " + place_.node_directory() + " in " + place_.folder(),
                         "see nodesnap snapshot list");
}

HeldSpace TreeBackend::held_space(const SnapshotEntry& entry) {
    const auto store = this->store(false);
    const auto found = store ? store->open(naming_.on_disk(entry.name, entry.temporary)) : std::nullopt;
    if (!found) {
        return {};
    }
    const FileDescriptor tree(try_open_long(found->directory.get(), kTreeName, kDirectory));
    if (!tree) {
        return {};
    }
    const LinkIndex links(found->directory.get());
    return links.exists() ? link_space(tree.get(), links, store->links()) : clone_space(tree.get());
}

bool TreeBackend::drop(const SnapshotEntry& entry) {
    const std::string on_disk = naming_.on_disk(entry.name, true);
    const auto store = this->store(false);
    auto found = store ? store->open(on_disk) : std::nullopt;
    // From the lock to the removal nobody begins to use it: who opened it meanwhile sees afterwards that it has gone.
    if (!found || entry::lock_exclusive(found->directory.get()) != 0 || !store->is_still_there(on_disk, found->directory.get())) {
        return false;
    }
    store->remove(on_disk, std::move(found->directory));
    return true;
}

// Space of what was removed is given back in the background.
void TreeBackend::wait_for_space() {
    if (const auto store = this->store(false)) {
        const FileDescriptor node = open_path(place_.node_directory(), O_RDONLY | O_DIRECTORY);
        sync_file_system(node.get(), place_.node_directory());
    }
}

void TreeBackend::remove_temporary(const std::string& name) {
    if (const auto store = this->store(false)) {
        store->remove(naming_.on_disk(name, true));
    }
}

std::shared_ptr<TreeStore> TreeBackend::store(bool make) const {
    FileDescriptor folder = place_.open_folder(make);
    return folder ? std::make_shared<TreeStore>(std::move(folder), place_.folder()) : nullptr;
}
// What killed programs have left half made, or half removed, of this node directory.
void TreeBackend::clear_up(TreeStore& store) const {
    store.clear_up([this](const std::string& name) { return naming_.parse(name).has_value(); });
}
// Whether somebody can write to it. Throws, with that status, unless that was accepted.
bool TreeBackend::is_in_use(ExitStatus status) const {
    const auto obstacle = find_obstacle(place_.node_directory(), excludes_, remedy());
    if (obstacle && !options_.accept_inconsistent) {
        throw Error(status, obstacle->message, obstacle->hint);
    }
    return obstacle.has_value();
}

// Whether somebody has. Throws unless that was accepted.
bool TreeBackend::was_changed(int node, std::int64_t since_ns) const {
    const auto path =
        changed_since(node, stat_fd(node).stx_ino, excludes_, since_ns, [this](const FileStatus& status) { return is_ours(status); });
    if (path && !options_.accept_inconsistent) {
        throw Error::failed("the node directory changed while it was " + verb() + ": " + (*path == "." ? "the directory itself" : *path),
                            remedy());
    }
    return path.has_value();
}

std::string TreeBackend::remedy() const {
    return "stop the daemon, or keep it from writing (--hold), while its files are " + verb();
}

void TreeBackend::refuse_in_use() const {
    if (!options_.held && !options_.accept_inconsistent) {
        is_in_use(ExitStatus::kRefused);
    }
}

bool remove_left_tree_snapshot(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    // The record comes from the repository. Only what a backup made for itself can be meant.
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    const std::string name = slash == std::string::npos ? "" : path.substr(slash + 1);
    const bool is_own_folder = parent.ends_with(std::string("/") + kSnapshotFolder);
    if (!parent.starts_with('/') || !is_temporary_snapshot_name(name)) {
        return true;
    }
    if (!stat_path(parent)) {
        return false;  // its file system isn't mounted
    }
    TreeStore store(open_path(parent, O_RDONLY | O_DIRECTORY | (is_own_folder ? O_NOFOLLOW : 0)), parent);
    store.remove(name);
    return true;
}

std::string remove_tree_snapshot_elsewhere(const SnapshotProof& proof) {
    const std::size_t slash = proof.path.rfind('/');
    if (!proof.path.starts_with('/') || slash == 0) {
        return "";
    }
    const std::string parent = proof.path.substr(0, slash);
    const std::string name = proof.path.substr(slash + 1);
    if (!is_temporary_snapshot_name(name)) {
        return "";
    }
    if (!stat_path(parent)) {
        return "its folder has moved, or its file system isn't mounted here";
    }
    TreeStore store(open_path(parent, O_RDONLY | O_DIRECTORY), parent);
    auto found = store.open(name);
    if (!found) {
        return "";
    }
    if (found->record.id != proof.subvolume_uuid || found->record.file_system_uuid != proof.file_system_uuid) {
        return "it isn't what it was";
    }
    if (entry::lock_exclusive(found->directory.get()) != 0) {
        return "somebody uses it";
    }
    store.remove(name, std::move(found->directory));
    return "";
}

}  // namespace nodesnap
