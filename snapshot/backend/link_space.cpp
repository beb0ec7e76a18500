#include "snapshot/backend/link_space.h"

#include "snapshot/backend/clone_files.h"

namespace nodesnap {
namespace {

class SpaceOfLinks : public CloneFiles {
public:
    SpaceOfLinks(const LinkIndex& links, const LinkIndexes& all) : links_(links), all_(all) {}

    const HeldSpace& result() const { return space_; }

private:
    void add(const SourceDirectory& directory, const std::string& name) override {
        const auto status = stat_at(directory.fd.get(), name);
        if (!status) {
            return;
        }
        constexpr std::uint64_t kSector = 512;
        const std::uint64_t bytes = status->stx_blocks * kSector;
        const auto link = links_.find(status->stx_ino);
        const std::uint64_t names = link ? link->links : status->stx_nlink;  // here, each of which is met
        if (names == 0) {
            return;
        }
        if (status->stx_nlink <= names) {
            space_.alone_bytes += bytes / names;
        } else if (status->stx_nlink <= all_.links_of(status->stx_ino)) {
            space_.shared_bytes += bytes / names;  // with other snapshots; the node has it no more
        }
    }

    const LinkIndex& links_;
    const LinkIndexes& all_;
    HeldSpace space_;
};

}  // namespace

HeldSpace link_space(int tree, const LinkIndex& links, const LinkIndexes& all) {
    SpaceOfLinks space(links, all);
    SourceWalk(tree, stat_fd(tree).stx_ino, ExcludeRules(), space).run();
    return space.result();
}

}  // namespace nodesnap
