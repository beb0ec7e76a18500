#include "snapshot/backend/hardlink.h"

#include <utility>

#include "io/units.h"
#include "platform/error.h"
#include "platform/file_system.h"
#include "snapshot/backend/ahead_backend.h"
#include "snapshot/backend/link_tree.h"

namespace nodesnap {
namespace {

class HardlinkBackend : public AheadBackend {
public:
    HardlinkBackend(TreePlace place, const ExcludeRules& excludes, const BackendOptions& options, std::string reason)
        : AheadBackend(std::move(place), excludes, options, std::move(reason)), immutable_(options.immutable) {}

    std::string name() const override { return "hardlink"; }

private:
    std::unique_ptr<TreeMaker> make_maker(int, int tree, int links, NamelessFiles* nameless, TreeStore& store) override {
        return std::make_unique<LinkTree>(tree, links, immutable_, store.links(), nameless);
    }
    std::string verb() const override { return "linked and copied"; }

    // Before the daemon is held for nothing.
    void refuse_too_much(std::uint64_t bytes) const override {
        const std::uint64_t free = file_system_of(place().node_directory()).free_bytes;
        if (bytes > free) {
            throw Error::refused("what doesn't fit --immutable has " + human_bytes(bytes) + ", and there are only " + human_bytes(free) +
                                     " free to copy it to, on the file system of " + place().node_directory(),
                                 "name more files that are never written to again, or use --snapshot none");
        }
    }

    const ExcludeRules immutable_;
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
