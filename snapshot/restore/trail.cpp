#include "snapshot/restore/trail.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

RestoreTrail::RestoreTrail(FileDescriptor root) {
    levels_.push_back({{}, std::make_shared<OpenDirectory>(OpenDirectory{std::move(root), {}})});
}

int RestoreTrail::enter(const std::string& name, bool make) {
    const auto& parent = levels_.back();
    DirectoryPlace place(parent.place, name);
    if (make) {
        const int error = entry::make_directory(parent.open->fd.get(), name, 0700);
        if (cannot_be_named(error)) {
            return error;
        }
        if (error != 0 && error != EEXIST) {
            throw Error::system("make the directory", place.path(), error);
        }
    }
    const int fd = try_open_long(parent.open->fd.get(), name, kDirectory);
    if (cannot_be_named(-fd) || (!make && fd == -ENOENT)) {
        return -fd;
    }
    if (fd < 0) {
        throw Error::system("open", place.path(), -fd);
    }
    auto open = std::make_shared<OpenDirectory>(OpenDirectory{FileDescriptor(fd), place});
    levels_.push_back({std::move(place), std::move(open)});
    if (levels_.size() > kOpenLevels) {
        levels_[levels_.size() - 1 - kOpenLevels].open.reset();
    }
    return 0;
}

bool RestoreTrail::enter_if_directory(const std::string& name) {
    const auto status = stat_at(top()->fd.get(), name);
    return status && S_ISDIR(status->stx_mode) && enter(name, false) == 0;
}

void RestoreTrail::leave() {
    const auto left = std::move(levels_.back().open);
    levels_.pop_back();
    auto& top = levels_.back();
    if (!top.open) {
        top.open = std::make_shared<OpenDirectory>(OpenDirectory{open_at(left->fd.get(), "..", kDirectory), top.place});
    }
}

}  // namespace nodesnap
