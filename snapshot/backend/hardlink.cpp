#include "snapshot/backend/hardlink.h"

#include <fcntl.h>

#include <optional>
#include <utility>

#include "io/units.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_tree.h"
#include "snapshot/backend/link_tree.h"
#include "snapshot/backend/tree_backend.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// A tree that is being made: begun before the daemon is held, and named when the snapshot is.
struct BegunTree {
    BegunTree(TreeStore& store_, std::string name_, const ExcludeRules& immutable)
        : name(std::move(name_)),
          directory(store_.begin(name)),
          tree(open_at(directory.get(), kTreeName, kDirectory)),
          links(open_at(directory.get(), kLinksName, kDirectory)),
          files(tree.get(), links.get(), immutable, store_.links()) {}

    std::string name;
    FileDescriptor directory, tree, links;
    LinkTree files;
};

class HardlinkBackend : public TreeBackend {
public:
    HardlinkBackend(TreePlace place, const ExcludeRules& excludes, const BackendOptions& options, std::string reason)
        : TreeBackend(std::move(place), excludes, options, std::move(reason)), immutable_(options.immutable) {}
    HardlinkBackend(const HardlinkBackend&) = delete;
    HardlinkBackend& operator=(const HardlinkBackend&) = delete;
    ~HardlinkBackend() override {
        try {
            if (begun_ && store_) {
                drop_begun(*store_);
            }
        } catch (const std::exception&) {
            // The next one clears it up.
        }
    }

    std::string name() const override { return "hardlink"; }

private:
    void prepare_more(TreeStore& store, int node) override {
        store_.emplace(open_path(place().folder(), O_RDONLY | O_DIRECTORY), place().folder());
        if (begun_) {
            drop_begun(store);
        }
        begun_ = std::make_shared<BegunTree>(store, naming().on_disk("ahead-" + Uuid::random().text(), true), immutable_);
        begun_->files.begin_ahead();
        try {
            make_tree(node, *begun_, true);
        } catch (const Error& error) {
            throw_if_interrupted();
            if (error.status() == ExitStatus::kRefused) {
                throw;
            }
            drop_begun(store);  // what changes too fast is linked when nobody changes it any more
            return;
        }
        refuse_too_much(begun_->files.rest_bytes());
        fault::step("snapshot.linked-ahead");
    }

    FileDescriptor begin(TreeStore& store, const std::string& on_disk) override {
        if (!begun_) {
            begun_ = std::make_shared<BegunTree>(store, on_disk, immutable_);
        } else {
            store.rename_unfinished(begun_->name, on_disk);
            begun_->name = on_disk;
        }
        return std::move(begun_->directory);
    }

    void fill(int node, TreeSnapshot& snapshot) override {
        const std::shared_ptr<BegunTree> begun = std::exchange(begun_, nullptr);
        snapshot.begin_tree();
        begun->files.begin_held(options().held && options().longest_hold_ns != 0 ? monotonic_ns() + options().longest_hold_ns : 0);
        made_ = begun;
        make_tree(node, *begun, options().accept_inconsistent);
        begun->files.end_held();
        snapshot.before_settled(
            [begun, directory = snapshot.directory(), path = snapshot.entry().path] { begun->files.settle(directory, path); });
    }

    bool is_ours(const FileStatus& status) const override {
        const auto made = made_.lock();
        return made && made->files.is_untouched(status);
    }
    std::string verb() const override { return "linked and copied"; }

    void make_tree(int node, BegunTree& begun, bool tolerates_changes) const {
        CloneTreeOptions clone_options;
        clone_options.workers = options().workers;
        clone_options.tolerate_changes = tolerates_changes;
        clone_tree(node, place().node_directory(), begun.tree.get(), begun.files, excludes(), clone_options);
    }

    void drop_begun(TreeStore& store) {
        const std::string name = begun_->name;
        begun_.reset();  // and with it the lock
        store.remove(name);
    }

    // Before the daemon is held for nothing.
    void refuse_too_much(std::uint64_t bytes) const {
        const std::uint64_t free = file_system_of(place().node_directory()).free_bytes;
        if (bytes > free) {
            throw Error::refused("what doesn't fit --immutable has " + human_bytes(bytes) + ", and there are only " + human_bytes(free) +
                                     " free to copy it to, on the file system of " + place().node_directory(),
                                 "name more files that are never written to again, or use --snapshot none");
        }
    }

    const ExcludeRules immutable_;
    std::optional<TreeStore> store_;    // to remove what was begun and isn't needed
    std::shared_ptr<BegunTree> begun_;  // until create() takes it
    std::weak_ptr<BegunTree> made_;
};

}  // namespace

std::unique_ptr<SnapshotBackend> make_hardlink_backend(TreePlace place, const ExcludeRules& excludes, const BackendOptions& options,
                                                       std::string reason) {
    auto backend = std::make_unique<HardlinkBackend>(std::move(place), excludes, options, std::move(reason));
    if (options.preflight) {
        backend->refuse_in_use();
    }
    return backend;
}

}  // namespace nodesnap
