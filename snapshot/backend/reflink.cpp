#include "snapshot/backend/reflink.h"

#include <fcntl.h>

#include <utility>

#include "platform/file.h"
#include "snapshot/backend/clone_tree.h"
#include "snapshot/backend/tree_backend.h"

namespace nodesnap {
namespace {

class ReflinkBackend : public TreeBackend {
public:
    using TreeBackend::TreeBackend;

    std::string name() const override { return "reflink"; }

private:
    void fill(int node, TreeSnapshot& snapshot) override {
        snapshot.begin_tree();
        CloneTreeOptions clone_options;
        clone_options.workers = options().workers;
        clone_options.tolerate_changes = options().accept_inconsistent;
        const FileDescriptor links = open_at(snapshot.directory(), kLinksName, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        InodeClone inodes(links.get());
        clone_tree(node, place().node_directory(), snapshot.root(), inodes, excludes(), clone_options);
    }
    std::string verb() const override { return "cloned"; }
};

}  // namespace

std::unique_ptr<SnapshotBackend> make_reflink_backend(TreePlace place, const ExcludeRules& excludes, const BackendOptions& options,
                                                      std::string reason) {
    auto backend = std::make_unique<ReflinkBackend>(std::move(place), excludes, options, std::move(reason));
    if (options.preflight) {
        backend->refuse_in_use();
    }
    return backend;
}

}  // namespace nodesnap
