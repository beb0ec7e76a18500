#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "platform/fault.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "snapshot/backend/tree_backend.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

TreeSnapshot::TreeSnapshot(std::shared_ptr<TreeStore> store, std::string on_disk, SnapshotEntry entry, FileDescriptor directory,
                           TreeRecord record, bool finished)
    : store_(std::move(store)),
      on_disk_(std::move(on_disk)),
      entry_(std::move(entry)),
      directory_(std::move(directory)),
      record_(std::move(record)),
      finished_(finished),
      kept_(finished) {
    entry_.created_ns = record_.taken_ns;
}

TreeSnapshot::~TreeSnapshot() {
    try {
        if (!kept_) {
            remove();
        }
    } catch (const std::exception&) {
        // Announced in the header: the next backup removes what is left.
    }
}

void TreeSnapshot::begin_tree(std::shared_ptr<const NamelessFiles> nameless) {
    nameless_ = std::move(nameless);
    tree_ = open_at(directory_.get(), kTreeName, kDirectory);
    record_.tree_ino = stat_fd(tree_.get()).stx_ino;
    record_.tree_generation = inode_generation(tree_.get());
    clones_.emplace(directory_.get(), "", nameless_);  // none are known before it is settled
}

bool TreeSnapshot::open_tree() {
    tree_.reset(std::max(try_open_long(directory_.get(), kTreeName, kDirectory), -1));
    clones_.emplace(directory_.get(), record_.node_directory);
    return tree_ && is_tree_of(tree_.get(), record_);
}

void TreeSnapshot::taken(std::int64_t duration_ns, Consistency consistency) {
    duration_ns_ = duration_ns;
    consistency_ = consistency;
}

SnapshotProof TreeSnapshot::proof() const {
    // Whoever copies a snapshot with its record makes another tree.
    SnapshotProof proof{record_.kind, entry_.path, record_.file_system_uuid, record_.id, record_.tree_ino, record_.tree_generation, true};
    if (finished_ && !nameless_) {
        const auto now = store_->open(on_disk_);
        proof.read_only = now && now->record.id == record_.id && is_tree_of(tree_.get(), record_);
    }
    return proof;
}

void TreeSnapshot::settle() {
    if (finished_) {
        return;
    }
    if (before_settled_) {
        std::exchange(before_settled_, {})();
    }
    if (!nameless_) {
        store_->finish(on_disk_, directory_.get(), record_);
    }
    finished_ = true;
    clones_.emplace(directory_.get(), record_.node_directory, nameless_);
    fault::step("snapshot.taken");
}

void TreeSnapshot::keep_for_operator() {
    settle();
    kept_ = true;
    const std::string on_disk = without_temporary(on_disk_);
    store_->rename(on_disk_, on_disk);
    entry_.path.replace(entry_.path.size() - on_disk_.size(), on_disk_.size(), on_disk);
    entry_.temporary = false;
    on_disk_ = on_disk;
}

void TreeSnapshot::remove() {
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

}  // namespace nodesnap
