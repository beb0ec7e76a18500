#include "snapshot/backend/clone_space.h"

#include <fcntl.h>

#include <algorithm>
#include <string>

#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"
#include "snapshot/backend/clone_files.h"

namespace nodesnap {
namespace {

class SpaceSink : public CloneFiles {
public:
    HeldSpace held;

private:
    void add(const SourceDirectory& directory, const std::string& name) override {
        const FileDescriptor file = open_at(directory.fd.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME);
        // One of several names is as good as any other: each counts its part.
        const std::uint64_t names = std::max<std::uint64_t>(1, stat_fd(file.get(), name).stx_nlink);
        ExtentReader extents(file.get(), directory.place.path_of(name));
        for (Extent extent; extents.next(extent);) {
            if (!extents.exact()) {
                throw Error::failed("the file system doesn't tell which extents of a file are shared");
            }
            ((extent.flags & Extent::kShared) != 0 ? held.shared_bytes : held.alone_bytes) += extent.length / names;
        }
    }
};

}  // namespace

HeldSpace clone_space(int tree) {
    SpaceSink sink;
    SourceWalk(tree, stat_fd(tree).stx_ino, ExcludeRules(), sink).run();
    return sink.held;
}

}  // namespace nodesnap
