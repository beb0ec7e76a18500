#include "snapshot/backend/ahead_backend.h"

#include <fcntl.h>

#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_tree.h"
#include "snapshot/backend/nameless_files.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

// A tree that is being made: begun before the daemon is held, and named when the snapshot is.
struct AheadBackend::BegunTree {
    std::string name;
    FileDescriptor directory, node, tree, links;
    std::shared_ptr<NamelessFiles> nameless;
    std::unique_ptr<TreeMaker> files;
};

AheadBackend::~AheadBackend() {
    try {
        if (begun_ && store_) {
            drop_begun(*store_);
        }
    } catch (const std::exception&) {
        // The next one clears it up.
    }
}

std::shared_ptr<AheadBackend::BegunTree> AheadBackend::begin_tree(TreeStore& store, const std::string& on_disk) {
    auto begun = std::make_shared<BegunTree>();
    begun->name = on_disk;
    begun->directory = store.begin(on_disk);
    begun->node = open_path(place().node_directory(), O_RDONLY | O_DIRECTORY);
    begun->tree = open_at(begun->directory.get(), kTreeName, kDirectory);
    begun->links = open_at(begun->directory.get(), kLinksName, kDirectory);
    if (place().in_memory()) {
        begun->nameless = std::make_shared<NamelessFiles>(place().node_directory());
    }
    begun->files = make_maker(begun->node.get(), begun->tree.get(), begun->links.get(), begun->nameless.get(), store);
    return begun;
}

void AheadBackend::prepare_more(TreeStore& store, int node) {
    if (begun_) {
        drop_begun(store);
    }
    if (!makes_ahead()) {
        return;
    }
    store_.emplace(place().open_folder(true), place().folder());
    begun_ = begin_tree(store, naming().on_disk("ahead-" + Uuid::random().text(), true));
    begun_->files->begin_ahead();
    try {
        make_tree(node, *begun_, true);
    } catch (const Error& error) {
        throw_if_interrupted();
        if (error.status() == ExitStatus::kRefused || is_space_error(error.error_number())) {
            throw;
        }
        drop_begun(store);  // what changes too fast (a directory that became a file, say) is made when nobody changes it any more
        return;
    }
    refuse_too_much(begun_->files->rest_bytes());
    fault::step("snapshot.made-ahead");
}

FileDescriptor AheadBackend::begin(TreeStore& store, const std::string& on_disk) {
    if (!begun_) {
        begun_ = begin_tree(store, on_disk);
    } else {
        store.rename_unfinished(begun_->name, on_disk);
        begun_->name = on_disk;
    }
    return std::move(begun_->directory);
}

void AheadBackend::fill(int node, TreeSnapshot& snapshot) {
    const std::shared_ptr<BegunTree> begun = std::exchange(begun_, nullptr);
    snapshot.begin_tree(begun->nameless);
    begun->files->begin_held(options().held && options().longest_hold_ns != 0 ? monotonic_ns() + options().longest_hold_ns : 0);
    made_ = begun;
    make_tree(node, *begun, options().accept_inconsistent);
    begun->files->end_held();
    snapshot.before_settled(
        [begun, directory = snapshot.directory(), path = snapshot.entry().path] { begun->files->settle(directory, path); });
}

bool AheadBackend::is_ours(const FileStatus& status) const {
    const auto made = made_.lock();
    return made && made->files->is_untouched(status);
}

void AheadBackend::make_tree(int node, BegunTree& begun, bool tolerates_changes) const {
    CloneTreeOptions clone_options;
    clone_options.workers = options().workers;
    clone_options.tolerate_changes = tolerates_changes;
    clone_tree(node, place().node_directory(), begun.tree.get(), *begun.files, excludes(), clone_options);
}

void AheadBackend::drop_begun(TreeStore& store) {
    const std::string name = begun_->name;
    begun_.reset();  // and with it the lock
    store.remove(name);
}

}  // namespace nodesnap
