#include "snapshot/backend/reflink.h"

#include <utility>

#include "snapshot/backend/ahead_backend.h"
#include "snapshot/backend/clone_ahead.h"

namespace nodesnap {
namespace {

class ReflinkBackend : public AheadBackend {
public:
    using AheadBackend::AheadBackend;

    std::string name() const override { return "reflink"; }

private:
    std::unique_ptr<TreeMaker> make_maker(int node, int tree, int links, NamelessFiles* nameless, TreeStore&) override {
        return std::make_unique<CloneAhead>(node, place().node_directory(), tree, links, nameless);
    }
    bool makes_ahead() const override { return options().held && LiveStamp::is_suitable(place().node_directory()); }
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
