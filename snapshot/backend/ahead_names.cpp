#include "snapshot/backend/ahead_names.h"

#include <fcntl.h>

#include <algorithm>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/xattr.h"
#include "snapshot/backend/clone_origin.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

void in_directory_of(int tree, const std::string& place, const std::function<void(int, const std::string&)>& change) {
    const std::size_t slash = place.rfind('/');
    const std::string above = slash == std::string::npos ? "" : place.substr(0, slash);
    const FileDescriptor directory(try_open_long(tree, above, kDirectory));
    if (!directory) {
        return;
    }
    const FileStatus before = stat_fd(directory.get(), above);
    change(directory.get(), slash == std::string::npos ? place : place.substr(slash + 1));
    const entry::Times times{before.stx_atime.tv_sec, before.stx_atime.tv_nsec, before.stx_mtime.tv_sec, before.stx_mtime.tv_nsec};
    if (const int failed = entry::set_times(directory.get(), times); failed != 0) {
        throw Error::system("set the times of", above + " in the snapshot", failed);
    }
}

void AheadDirectories::add(const std::string& path) {
    const std::lock_guard lock(mutex_);
    paths_.push_back(path);
}

void AheadDirectories::drop_unfinished(int tree) const {
    std::vector<std::string> paths = paths_;
    std::sort(paths.begin(), paths.end(), [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
    for (const std::string& path : paths) {
        const FileDescriptor directory(path.empty() ? -1 : try_open_long(tree, path, kDirectory));
        if (!directory || xattr::get(directory.get(), kCloneOriginAttribute, path)) {
            continue;
        }
        in_directory_of(tree, path, [&path](int above, const std::string& name) {
            if (const int failed = entry::remove_directory(above, name); failed != 0) {
                throw Error::system("remove", path + " from the snapshot", failed);
            }
        });
    }
}

}  // namespace nodesnap
