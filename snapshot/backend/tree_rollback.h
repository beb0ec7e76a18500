// TreeRollback: puts a tree that is made anew of a snapshot in the place of a node directory that is a plain folder, by one exchange of
// names; the replaced directory becomes a snapshot as it is. See docs/design.md, "Rolling back a folder".
//
// It works in the directory of RollbackWork, beside the snapshots, whose `directory` is the snapshot-to-be of what is there now:
//
//     directory/tree            the new tree; after the exchange what was replaced
//     directory/snapshot.json   the record of the latter, which tells the two apart: durable before the exchange
//
// Errors: nodesnap::Error. One thread, and those that make the tree. Needs CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/entry.h"
#include "platform/file_descriptor.h"
#include "platform/mount.h"
#include "snapshot/backend/rollback_way.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backend/tree_store.h"
#include "snapshot/exclude.h"

namespace nodesnap {

struct TreeRollbackOptions {
    std::string snapshot_directory;      // --snapshot-dir, empty: the documented place
    std::string kind;                    // of the node's snapshots: "btrfs", or any kind of tree
    std::vector<std::string> immutable;  // patterns; where nothing can be cloned: of a snapshot that doesn't say itself what can be linked
};

class TreeRollback : public RollbackWay {
public:
    // Touches nothing. Error::refused where the directory can't be rolled back so: it is the root of a mount or of a subvolume, its
    // snapshots lie where nothing can be renamed to, or mounts lie below.
    TreeRollback(const std::string& node_directory, const TreeRollbackOptions& options);
    ~TreeRollback() override;

    Layout layout() const override { return Layout::kFolder; }
    std::uint64_t subvolume_id() const override { return 0; }
    std::vector<StaleMount> stale_mounts() const override;
    bool is_used_by_kernel() const override { return false; }  // it doesn't tell of a folder
    bool seals_replaced() const override { return false; }

    void inspect(const SnapshotEntry& snapshot) override;
    std::vector<std::string> left_out() const override { return left_out_; }
    void prepare(const SnapshotEntry& snapshot, const std::string& kept) override;
    void exchange() override;
    bool exchanged() const override { return exchanged_; }
    std::string keep() override;
    void require_shown() const override;
    bool has_sealed_root() const override { return has_sealed_root_; }

private:
    struct Source;
    Source open_source(const SnapshotEntry& snapshot) const;
    void refuse_layout() const;
    void refuse_node() const;
    void refuse_folder() const;
    void make_tree(const Source& source);
    void record(const std::string& kept);
    bool shows(int directory, std::uint64_t ino, std::uint64_t generation) const;
    std::string node_name() const { return node_directory_.substr(node_directory_.rfind('/') + 1); }

    struct Identity {
        std::uint64_t ino = 0, generation = 0;
        entry::Times times;
    };
    static Identity identity_of(int directory);

    const std::string node_directory_;
    const TreeRollbackOptions options_;
    const SnapshotNaming naming_;
    const ExcludeRules immutable_;
    std::string folder_;  // of the snapshots
    std::string file_system_uuid_;
    std::string inside_;  // btrfs: the node directory's path in the snapshotted subvolume
    bool clones_ = true;  // files can be cloned there
    Mount mount_;         // that shows the node directory
    Identity live_, made_;
    std::optional<TreeStore> store_;
    FileDescriptor snapshots_, work_, present_;
    std::string kept_;  // on storage
    std::string replaced_path_;
    std::vector<std::string> left_out_;
    bool prepared_ = false;
    bool exchanged_ = false;
    bool has_sealed_root_ = false;
};

// Ends a rollback of the directory that was cut off: removes what wasn't put in place, or keeps what was replaced. Says which, as a
// sentence; empty if there was none, or one is being done.
std::string finish_tree_rollback(const std::string& node_directory, const std::string& snapshot_directory);

}  // namespace nodesnap
