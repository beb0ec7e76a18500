#include "snapshot/restore/trail.h"

#include <cerrno>
#include <utility>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

}  // namespace

DirectoryName::~DirectoryName() {
    auto next = std::move(parent);
    while (next && next.use_count() == 1) {
        // Nobody else knows it, so it may be taken apart here.
        next = std::move(const_cast<DirectoryName&>(*next).parent);
    }
}

std::string DirectoryName::path() const {
    std::vector<const std::string*> names;
    for (const auto* level = this; level != nullptr; level = level->parent.get()) {
        names.push_back(&level->name);
    }
    std::string result;
    for (auto i = names.rbegin(); i != names.rend(); ++i) {
        result += result.empty() ? "" : "/";
        result += **i;
    }
    return result;
}

std::string DirectoryName::path_of(const std::string& entry) const {
    const auto directory = path();
    return directory.empty() ? entry : directory + "/" + entry;
}

RestoreTrail::RestoreTrail(FileDescriptor root) {
    auto name = std::make_shared<const DirectoryName>("", nullptr);
    auto open = std::make_shared<OpenDirectory>(OpenDirectory{std::move(root), name});
    levels_.push_back({std::move(name), std::move(open)});
}

int RestoreTrail::enter(const std::string& name, bool make) {
    const auto& parent = levels_.back();
    auto known = std::make_shared<const DirectoryName>(name, parent.name);
    if (make) {
        const int error = entry::make_directory(parent.open->fd.get(), name, 0700);
        if (cannot_be_named(error)) {
            return error;
        }
        if (error != 0 && error != EEXIST) {
            throw Error::system("make the directory", known->path(), error);
        }
    }
    const int fd = try_open_long(parent.open->fd.get(), name, kDirectory);
    if (cannot_be_named(-fd) || (!make && fd == -ENOENT)) {
        return -fd;
    }
    if (fd < 0) {
        throw Error::system("open", known->path(), -fd);
    }
    auto open = std::make_shared<OpenDirectory>(OpenDirectory{FileDescriptor(fd), known});
    levels_.push_back({std::move(known), std::move(open)});
    if (levels_.size() > kOpenLevels) {
        levels_[levels_.size() - 1 - kOpenLevels].open.reset();
    }
    return 0;
}

void RestoreTrail::leave() {
    const auto left = std::move(levels_.back().open);
    levels_.pop_back();
    auto& top = levels_.back();
    if (!top.open) {
        top.open = std::make_shared<OpenDirectory>(OpenDirectory{open_at(left->fd.get(), "..", kDirectory), top.name});
    }
}

}  // namespace nodesnap
