#include "snapshot/backend/revival_needs.h"

#include <fcntl.h>

#include <optional>
#include <string>

#include "platform/extent_map.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_files.h"

namespace nodesnap {
namespace {

class Needs : public CloneFiles {
public:
    explicit Needs(const RevivalSource& source) : source_(source) {}
    std::uint64_t bytes = 0;

private:
    void add(const SourceDirectory& directory, const std::string& name) override {
        throw_if_interrupted();
        const std::string path = directory.place.path_of(name);
        const FileDescriptor file = open_at(directory.fd.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME);
        const FileStatus status = stat_fd(file.get(), path);
        if (source_.copies && is_linked(directory, name, status, path)) {
            return;
        }
        constexpr std::uint64_t kSector = 512;
        const std::uint64_t names = std::max<std::uint64_t>(1, status.stx_nlink);  // each of which is met
        const std::uint64_t needed = unwritten(file.get(), path) + (source_.copies ? status.stx_blocks * kSector : 0);
        bytes += needed / names;
    }

    bool is_linked(const SourceDirectory& directory, const std::string& name, const FileStatus& status, const std::string& path) const {
        if (source_.own->exists()) {
            const auto record = source_.own->find(status.stx_ino);
            if (record) {
                require_unspoilt(*record, status, path);
            }
            return record.has_value();
        }
        return source_.all->find_untouched(status) || source_.immutable->matches_tree(directory.place.whole_path_of(name), false);
    }

    // What is to be allocated, besides what is copied.
    std::uint64_t unwritten(int file, const std::string& path) const {
        std::uint64_t length = 0;
        if (source_.origins == Origins::kRecorded) {
            for (const UnwrittenRange& range : read_clone_origin(file, false, path).unwritten) {
                length += range.length;
            }
        } else if (!source_.copies) {
            ExtentReader extents(file, path);
            extents.leave_unsynced();
            for (Extent extent; extents.next(extent);) {
                length += extent.unwritten() ? extent.length : 0;
            }
        }
        return length;
    }

    const RevivalSource& source_;
};

}  // namespace

std::uint64_t bytes_needed(const RevivalSource& source) {
    Needs needs(source);
    SourceWalk(source.tree, stat_fd(source.tree).stx_ino, ExcludeRules(), needs).run();
    return needs.bytes;
}

}  // namespace nodesnap
