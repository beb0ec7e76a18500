// What becomes of a rollback by a tree that was cut off.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "platform/btrfs.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/rollback_work.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/backend/tree_rollback.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

bool is_ours(int directory) {
    const FileStatus status = stat_fd(directory);
    return S_ISDIR(status.stx_mode) && status.stx_uid == ::geteuid();
}

// Where the snapshots of a folder may lie, whatever made them.
std::vector<std::string> folders_of(const std::string& node_directory, const std::string& snapshot_directory) {
    if (!snapshot_directory.empty() && !stat_path(snapshot_directory)) {
        return {};
    }
    if (!snapshot_directory.empty()) {
        return {named_folder(snapshot_directory).path};
    }
    std::vector<std::string> folders{join_path(parent_of_path(node_directory), kSnapshotFolder)};
    if (btrfs::is_btrfs(node_directory)) {
        if (const BtrfsPlace place(node_directory, "", nullptr); place.folder() != folders[0] && place.folder().starts_with('/')) {
            folders.push_back(place.folder());
        }
    }
    return folders;
}

class LeftTreeRollback {
public:
    LeftTreeRollback(const std::string& node_directory, std::string folder)
        : node_directory_(node_directory), folder_(std::move(folder)), naming_(node_directory) {}

    // False if there is nothing, or somebody is at work there.
    bool find() {
        if (const auto status = stat_path(folder_, AT_SYMLINK_NOFOLLOW); !status || !S_ISDIR(status->stx_mode)) {
            return false;
        }
        snapshots_ = open_path(folder_, kDirectory);
        work_.reset(std::max(try_open_long(snapshots_.get(), naming_.rollback_directory(), kDirectory), -1));
        if (!work_ || !is_ours(snapshots_.get()) || !is_ours(work_.get())) {
            return false;
        }
        const auto now = entry::lock_exclusive(work_.get()) == 0 ? stat_at(snapshots_.get(), naming_.rollback_directory()) : std::nullopt;
        return now && now->stx_ino == stat_fd(work_.get()).stx_ino;
    }

    std::string finish() {
        TreeStore store(open_at(snapshots_.get(), ".", O_RDONLY | O_DIRECTORY), folder_);
        const RollbackNote note = read_rollback_note(work_.get());
        const std::string kept = note.kept.empty() ? "" : naming_.on_disk(note.kept, false);
        const std::string what = "a rollback of " + node_directory_ + " to the snapshot " + note.snapshot + " was cut off ";
        const bool is_there = stat_at(work_.get(), kRollbackContent).has_value();
        if (!is_there && kept.empty()) {
            remove_rollback_work(snapshots_.get(), naming_);
            return "";  // it hadn't begun, or had ended
        }
        const bool took_place = is_there ? holds_replaced(kept) : !kept.empty() && store.open(kept);
        if (is_there && took_place) {
            const FileDescriptor present = open_at(work_.get(), kRollbackContent, kDirectory);
            make_exchange_durable(present.get(), open_path(parent_of_path(node_directory_), O_RDONLY | O_DIRECTORY).get(), node_directory_);
            keep_replaced_tree(store, work_.get(), kept);
        } else if (is_there) {
            store.remove_in(work_.get(), kRollbackContent, folder_);
        }
        remove_rollback_work(snapshots_.get(), naming_);
        return what +
               (took_place
                    ? "after it had taken place: the directory is that of the snapshot, and what was there before is kept as " + note.kept
                    : "before it took place: the directory is what it was");
    }

private:
    // Before the exchange the record is that of the node directory, and durable.
    bool holds_replaced(const std::string& kept) const {
        const auto stored = TreeStore::read(work_.get(), kRollbackContent, folder_);
        if (!stored || kept.empty() || stored->record.name != kept || stored->record.kind != kKeptTree) {
            return false;
        }
        const FileDescriptor tree(std::max(try_open_long(stored->directory.get(), kTreeName, kDirectory), -1));
        return is_tree_of(tree.get(), stored->record);
    }

    const std::string node_directory_;
    const std::string folder_;
    const SnapshotNaming naming_;
    FileDescriptor snapshots_, work_;
};

}  // namespace

std::string finish_tree_rollback(const std::string& node_directory, const std::string& snapshot_directory) {
    if (is_mount_root(node_directory) || btrfs::is_subvolume(open_path(node_directory, O_RDONLY | O_DIRECTORY).get())) {
        return "";  // such aren't rolled back so
    }
    for (const std::string& folder : folders_of(node_directory, snapshot_directory)) {
        if (LeftTreeRollback left(node_directory, folder); left.find()) {
            return left.finish();
        }
    }
    return "";
}

}  // namespace nodesnap
