// TreeBackend: what the backends have in common whose snapshots are trees of files beside the node directory (clones; links and copies).
// None of them is atomic: nobody may write to the node directory while create() runs. Needs CAP_SYS_ADMIN.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backend/tree_place.h"
#include "snapshot/backend/tree_store.h"
#include "snapshot/exclude.h"

namespace nodesnap {

class NamelessFiles;

class TreeSnapshot : public Snapshot {
public:
    // `finished`: it is one that was found; otherwise `directory` is what TreeStore::begin() has made.
    TreeSnapshot(std::shared_ptr<TreeStore> store, std::string on_disk, SnapshotEntry entry, FileDescriptor directory, TreeRecord record,
                 bool finished);
    ~TreeSnapshot() override;

    // Of one that was just begun. `nameless`: as of CloneIndex; then it lasts no longer than this.
    void begin_tree(std::shared_ptr<const NamelessFiles> nameless);
    bool open_tree();  // false if the tree isn't the one that the record is of
    int directory() const { return directory_.get(); }
    void taken(std::int64_t duration_ns, Consistency consistency);
    // Done by settle() before all else.
    void before_settled(std::function<void()> work) { before_settled_ = std::move(work); }

    int root() const override { return tree_.get(); }
    std::uint64_t root_ino() const override { return record_.root_ino; }
    const CloneIndex* clones() const override { return clones_ ? &*clones_ : nullptr; }
    const SnapshotFiles* files() const override { return clones(); }
    const SnapshotEntry& entry() const override { return entry_; }
    SnapshotProof proof() const override;
    std::int64_t taken_ns() const override { return record_.taken_ns; }
    std::int64_t duration_ns() const override { return duration_ns_; }
    Consistency consistency() const override { return consistency_; }
    void settle() override;
    // What isn't settled would be cleared up all the same.
    void keep() noexcept override { kept_ = finished_ && !nameless_; }
    void keep_for_operator() override;
    void remove() override;

private:
    std::shared_ptr<TreeStore> store_;
    std::string on_disk_;
    SnapshotEntry entry_;
    FileDescriptor directory_;  // locked
    FileDescriptor tree_;
    std::shared_ptr<const NamelessFiles> nameless_;
    std::optional<CloneIndex> clones_;
    TreeRecord record_;
    std::function<void()> before_settled_;
    std::int64_t duration_ns_ = 0;
    Consistency consistency_ = Consistency::kPointInTime;
    bool finished_;
    bool kept_;
    bool removed_ = false;
};

class TreeBackend : public SnapshotBackend {
public:
    TreeBackend(TreePlace place, ExcludeRules excludes, const BackendOptions& options, std::string reason);

    std::string reason() const override { return reason_; }
    Layout layout() const override { return place_.layout(); }
    std::string file_system_uuid() const override { return place_.file_system_uuid(); }
    std::string describe_location() const override { return place_.folder(); }
    bool atomic() const override { return false; }
    std::string why_no_changes() const override;
    void prepare() override;
    std::unique_ptr<Snapshot> create(const std::string& name, bool temporary) override;
    std::unique_ptr<Snapshot> find(const std::string& name, const SnapshotProof& proof) override;
    std::string flaw_of(const std::string& name, const SnapshotProof& proof) override;
    std::string path_of(const std::string& name) const override;
    // What was made from where doesn't matter: every file is looked at.
    bool precedes(const Snapshot&) const override { return true; }
    // Of whatever kind of tree.
    std::vector<SnapshotEntry> list() override;
    void remove(const std::string& name) override;
    HeldSpace held_space(const SnapshotEntry& entry) override;
    bool drop(const SnapshotEntry& entry) override;
    void wait_for_space() override;
    void remove_temporary(const std::string& name) override;

    // Error::refused if somebody can write to the node directory, unless options.held or options.accept_inconsistent.
    void refuse_in_use() const;

protected:
    // Between the two flushes.
    virtual void prepare_more(TreeStore&, int /*node*/) {}
    // An empty one, locked, under that name.
    virtual FileDescriptor begin(TreeStore& store, const std::string& on_disk) { return store.begin(on_disk); }
    // Makes the tree: begin_tree(), and all below.
    virtual void fill(int node, TreeSnapshot& snapshot) = 0;
    // Whether the last change of a file of the node is ours.
    virtual bool is_ours(const FileStatus&) const { return false; }
    virtual std::string verb() const = 0;  // what it does with files, for messages: "cloned"

    const TreePlace& place() const { return place_; }
    const ExcludeRules& excludes() const { return excludes_; }
    const BackendOptions& options() const { return options_; }
    const SnapshotNaming& naming() const { return naming_; }

private:
    std::shared_ptr<TreeStore> store(bool make) const;  // nullptr if there is no folder and `make` is false
    void clear_up(TreeStore& store) const;
    std::string path_of_stored(const std::string& on_disk) const { return place_.folder() + "/" + on_disk; }
    std::string remedy() const;
    bool is_in_use(ExitStatus status) const;
    bool was_changed(int node, std::int64_t since_ns) const;

    TreePlace place_;
    ExcludeRules excludes_;
    BackendOptions options_;
    SnapshotNaming naming_;
    std::string reason_;
    bool prepared_ = false;
};

// As remove_left_snapshot().
bool remove_left_tree_snapshot(const std::string& path);
// As remove_snapshot_elsewhere().
std::string remove_tree_snapshot_elsewhere(const SnapshotProof& proof);

}  // namespace nodesnap
