#include "snapshot/backend/reflink.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/clone_space.h"
#include "snapshot/backend/clone_tree.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/backend/reflink_store.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/drain/change_scan.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr const char* kTree = "tree";
constexpr const char* kRemedy = "stop the daemon, or keep it from writing (--hold), while its files are cloned";

SnapshotProof proof_of(const ReflinkRecord& record, const std::string& path) {
    // Whoever copies a snapshot with its record makes another tree.
    return {"reflink", path, record.file_system_uuid, record.id, record.tree_ino, record.tree_generation, true};
}

bool is_tree_of(int tree, const ReflinkRecord& record) {
    return tree >= 0 && stat_fd(tree).stx_ino == record.tree_ino && inode_generation(tree) == record.tree_generation;
}

class ReflinkSnapshot : public Snapshot {
public:
    ReflinkSnapshot(std::shared_ptr<ReflinkStore> store, std::string on_disk, SnapshotEntry entry, FileDescriptor directory,
                    ReflinkRecord record, bool finished)
        : store_(std::move(store)),
          on_disk_(std::move(on_disk)),
          entry_(std::move(entry)),
          directory_(std::move(directory)),
          record_(std::move(record)),
          finished_(finished),
          kept_(finished) {
        entry_.created_ns = record_.taken_ns;
    }

    ~ReflinkSnapshot() override {
        try {
            if (!kept_) {
                remove();
            }
        } catch (const std::exception&) {
            // Announced in the header: the next backup removes what is left.
        }
    }

    // Of one that was just begun.
    void begin_tree() {
        tree_ = open_at(directory_.get(), kTree, kDirectory);
        record_.tree_ino = stat_fd(tree_.get()).stx_ino;
        record_.tree_generation = inode_generation(tree_.get());
        clones_.emplace(directory_.get());  // none are known before it is settled
    }
    // False if the tree isn't the one that the record is of.
    bool open_tree() {
        tree_.reset(std::max(try_open_long(directory_.get(), kTree, kDirectory), -1));
        clones_.emplace(directory_.get());
        return tree_ && is_tree_of(tree_.get(), record_);
    }
    int directory() const { return directory_.get(); }
    void taken(std::int64_t duration_ns, Consistency consistency) {
        duration_ns_ = duration_ns;
        consistency_ = consistency;
    }

    int root() const override { return tree_.get(); }
    std::uint64_t root_ino() const override { return record_.root_ino; }
    const CloneIndex* clones() const override { return clones_ ? &*clones_ : nullptr; }
    const SnapshotEntry& entry() const override { return entry_; }
    SnapshotProof proof() const override {
        SnapshotProof proof = proof_of(record_, entry_.path);
        if (finished_) {
            const auto now = store_->open(on_disk_);
            proof.read_only = now && now->record.id == record_.id && is_tree_of(tree_.get(), record_);
        }
        return proof;
    }
    std::int64_t taken_ns() const override { return record_.taken_ns; }
    std::int64_t duration_ns() const override { return duration_ns_; }
    Consistency consistency() const override { return consistency_; }

    void settle() override {
        if (!finished_) {
            store_->finish(on_disk_, directory_.get(), record_);
            finished_ = true;
            clones_.emplace(directory_.get());
            fault::step("snapshot.taken");
        }
    }

    // What isn't settled would be cleared up all the same.
    void keep() noexcept override { kept_ = finished_; }

    void keep_for_operator() override {
        settle();
        kept_ = true;
        const std::string on_disk = without_temporary(on_disk_);
        store_->rename(on_disk_, on_disk);
        entry_.path.replace(entry_.path.size() - on_disk_.size(), on_disk_.size(), on_disk);
        entry_.temporary = false;
        on_disk_ = on_disk;
    }

    void remove() override {
        if (removed_) {
            return;
        }
        clones_.reset();
        tree_.reset();
        directory_.reset();
        store_->remove(on_disk_);
        removed_ = true;
        kept_ = true;
    }

private:
    std::shared_ptr<ReflinkStore> store_;
    std::string on_disk_;
    SnapshotEntry entry_;
    FileDescriptor directory_;  // locked
    FileDescriptor tree_;
    std::optional<CloneIndex> clones_;
    ReflinkRecord record_;
    std::int64_t duration_ns_ = 0;
    Consistency consistency_ = Consistency::kPointInTime;
    bool finished_;
    bool kept_;
    bool removed_ = false;
};

class ReflinkBackend : public SnapshotBackend {
public:
    ReflinkBackend(ReflinkPlace place, ExcludeRules excludes, const BackendOptions& options, std::string reason)
        : place_(std::move(place)),
          excludes_(std::move(excludes)),
          options_(options),
          naming_(place_.node_directory()),
          reason_(std::move(reason)) {}

    std::string name() const override { return "reflink"; }
    std::string reason() const override { return reason_; }
    Layout layout() const override { return place_.layout(); }
    std::string file_system_uuid() const override { return place_.file_system_uuid(); }
    std::string describe_location() const override { return place_.folder(); }
    bool atomic() const override { return false; }

    void prepare() override {
        // What the preflight found may have changed since.
        refuse_nested(place_.node_directory(), excludes_);
        clear_up(*store(true));
        const FileDescriptor node = open_path(place_.node_directory(), O_RDONLY | O_DIRECTORY);
        // The first flush writes what has gathered, the second the little that came meanwhile: a file is flushed before it is cloned.
        sync_file_system(node.get(), place_.node_directory());
        sync_file_system(node.get(), place_.node_directory());
        prepared_ = true;
    }

    std::unique_ptr<Snapshot> create(const std::string& name, bool temporary) override {
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

        ReflinkRecord record;
        record.id = Uuid::random();
        record.name = without_temporary(on_disk);
        record.node_directory = place_.node_directory();
        record.file_system_uuid = place_.file_system_uuid();
        record.root_ino = stat_fd(node.get()).stx_ino;
        record.taken_ns = utc_now_ns();
        const std::int64_t begun_ns = monotonic_ns();
        auto snapshot = std::make_unique<ReflinkSnapshot>(store, on_disk, SnapshotEntry{name, path_of_stored(on_disk), 0, temporary},
                                                          store->begin(on_disk), std::move(record), false);
        clone(node.get(), *snapshot);
        const std::int64_t duration_ns = monotonic_ns() - begun_ns;
        fault::step("snapshot.cloned");
        const bool inconsistent = !options_.held && (used_before || is_in_use(ExitStatus::kFailed) || was_changed(node.get(), since_ns));
        snapshot->taken(duration_ns, inconsistent ? Consistency::kInconsistent : Consistency::kPointInTime);
        if (!options_.held) {
            snapshot->settle();
        }
        return snapshot;
    }

    std::unique_ptr<Snapshot> find(const std::string& name, const SnapshotProof& proof) override {
        const auto store = this->store(false);
        if (!store || proof.backend != "reflink" || proof.file_system_uuid != place_.file_system_uuid()) {
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
            auto snapshot = std::make_unique<ReflinkSnapshot>(store, on_disk, SnapshotEntry{name, path_of_stored(on_disk), 0, temporary},
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

    std::string flaw_of(const std::string& name, const SnapshotProof& proof) override {
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
            const FileDescriptor tree(try_open_long(found->directory.get(), kTree, kDirectory));
            return is_tree_of(tree.get(), found->record) ? "can't be opened" : "was replaced by a copy of it";
        }
        return "";
    }

    std::string path_of(const std::string& name) const override { return path_of_stored(naming_.on_disk(name, true)); }

    // What was cloned from where doesn't matter: every file is looked at.
    bool precedes(const Snapshot&) const override { return true; }

    std::vector<SnapshotEntry> list() override {
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
        store->for_each([&](const std::string& on_disk, const StoredReflink& found) {
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

    void remove(const std::string& name) override {
        if (const auto store = this->store(false)) {
            for (const bool temporary : {false, true}) {
                const std::string on_disk = naming_.on_disk(name, temporary);
                if (auto found = store->open(on_disk)) {
                    if (entry::lock_exclusive(found->directory.get()) == EWOULDBLOCK) {
                        throw Error::refused(
                            "the snapshot \"" + name + "\" of " + place_.node_directory() + " is in use by a running backup",
                            "wait until that backup has ended");
                    }
                    return store->remove(on_disk, std::move(found->directory));
                }
            }
        }
        throw Error::refused("there is no snapshot named \"" + name + "\" of " + place_.node_directory() + " in " + place_.folder(),
                             "see nodesnap snapshot list");
    }

    HeldSpace held_space(const SnapshotEntry& entry) override {
        const auto store = this->store(false);
        const auto found = store ? store->open(naming_.on_disk(entry.name, entry.temporary)) : std::nullopt;
        if (!found) {
            return {};
        }
        const FileDescriptor tree(try_open_long(found->directory.get(), kTree, kDirectory));
        return tree ? clone_space(tree.get()) : HeldSpace{};
    }

    bool drop(const SnapshotEntry& entry) override {
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
    void wait_for_space() override {
        if (const auto store = this->store(false)) {
            const FileDescriptor node = open_path(place_.node_directory(), O_RDONLY | O_DIRECTORY);
            sync_file_system(node.get(), place_.node_directory());
        }
    }

    void remove_temporary(const std::string& name) override {
        if (const auto store = this->store(false)) {
            store->remove(naming_.on_disk(name, true));
        }
    }

private:
    // nullptr if there is no folder and `make` is false.
    std::shared_ptr<ReflinkStore> store(bool make) const {
        FileDescriptor folder = place_.open_folder(make);
        return folder ? std::make_shared<ReflinkStore>(std::move(folder), place_.folder()) : nullptr;
    }
    // What killed programs have left half made, or half removed, of this node directory.
    void clear_up(ReflinkStore& store) const {
        store.clear_up([this](const std::string& name) { return naming_.parse(name).has_value(); });
    }
    std::string path_of_stored(const std::string& on_disk) const { return place_.folder() + "/" + on_disk; }

    void clone(int node, ReflinkSnapshot& snapshot) const {
        snapshot.begin_tree();
        CloneTreeOptions options;
        options.workers = options_.workers;
        options.tolerate_changes = options_.accept_inconsistent;
        const FileDescriptor links = open_at(snapshot.directory(), "links", kDirectory);
        clone_tree(node, place_.node_directory(), snapshot.root(), links.get(), excludes_, options);
    }

    // Whether somebody can write to it. Throws, with that status, unless that was accepted.
    bool is_in_use(ExitStatus status) const {
        const auto obstacle = find_obstacle(place_.node_directory(), excludes_, kRemedy);
        if (obstacle && !options_.accept_inconsistent) {
            throw Error(status, obstacle->message, obstacle->hint);
        }
        return obstacle.has_value();
    }

    // Whether somebody has. Throws unless that was accepted.
    bool was_changed(int node, std::int64_t since_ns) const {
        const auto path = changed_since(node, stat_fd(node).stx_ino, excludes_, since_ns);
        if (path && !options_.accept_inconsistent) {
            throw Error::failed("the node directory changed while it was cloned: " + (*path == "." ? "the directory itself" : *path),
                                kRemedy);
        }
        return path.has_value();
    }

    ReflinkPlace place_;
    ExcludeRules excludes_;
    BackendOptions options_;
    SnapshotNaming naming_;
    std::string reason_;
    bool prepared_ = false;
};

}  // namespace

std::unique_ptr<SnapshotBackend> make_reflink_backend(ReflinkPlace place, const ExcludeRules& excludes, const BackendOptions& options,
                                                      std::string reason) {
    if (options.preflight && !options.held && !options.accept_inconsistent) {
        if (const auto obstacle = find_obstacle(place.node_directory(), excludes, kRemedy)) {
            throw Error::refused(obstacle->message, obstacle->hint);
        }
    }
    return std::make_unique<ReflinkBackend>(std::move(place), excludes, options, std::move(reason));
}

bool remove_left_reflink_snapshot(const std::string& path) {
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
    ReflinkStore store(open_path(parent, O_RDONLY | O_DIRECTORY | (is_own_folder ? O_NOFOLLOW : 0)), parent);
    store.remove(name);
    return true;
}

std::string remove_reflink_snapshot_elsewhere(const SnapshotProof& proof) {
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
    ReflinkStore store(open_path(parent, O_RDONLY | O_DIRECTORY), parent);
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
