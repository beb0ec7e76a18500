#include "snapshot/restore/remove_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore/attributes.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr int kFile = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;

[[noreturn]] void cannot_remove(const std::string& path, int error) {
    throw Error::system("remove", path, error);
}

// Again, without the flags that forbid it.
template <typename Remove>
void remove_unsealed(int directory, const std::string& name, int flags, const std::string& path, const Remove& remove) {
    int error = remove();
    if (error == EPERM) {
        AttributeWriter::unseal(directory);
        const int opened = try_open_long(directory, name, flags);
        if (opened >= 0) {
            const FileDescriptor fd(opened);
            AttributeWriter::unseal(fd.get());
        }
        error = remove();
    }
    if (error != 0 && error != ENOENT) {
        cannot_remove(path, error);
    }
}

// Removes files and empty directories. Returns the name of a directory that isn't empty, where it stops, so that what is left isn't looked
// through once for each; empty if there was none.
std::string remove_files(int directory, const std::string& path) {
    DirectoryStream stream(open_at(directory, ".", kDirectory), path);
    DirectoryEntry found;
    while (stream.next(found)) {
        const auto status = stat_at(directory, found.name);
        if (!status) {
            continue;
        }
        if (S_ISDIR(status->stx_mode)) {
            const int error = entry::remove_directory(directory, found.name);
            if (error != 0 && error != ENOENT) {
                return found.name;
            }
            continue;
        }
        remove_unsealed(directory, found.name, kFile, path + "/" + found.name, [&] { return entry::remove(directory, found.name); });
    }
    return {};
}

}  // namespace

void remove_tree(int directory, const std::string& name, const std::string& path) {
    if (!stat_at(directory, name)) {
        return;
    }
    auto parent = open_at(directory, ".", kDirectory);
    auto current = open_at(directory, name, kDirectory);
    std::vector<std::string> names{name};
    while (!names.empty()) {
        throw_if_interrupted();
        if (auto subdirectory = remove_files(current.get(), path); !subdirectory.empty()) {
            parent = std::move(current);
            current = open_at(parent.get(), subdirectory, kDirectory);
            names.push_back(std::move(subdirectory));
            continue;
        }
        current.reset();
        const auto& last = names.back();
        remove_unsealed(parent.get(), last, kDirectory, path, [&] { return entry::remove_directory(parent.get(), last); });
        names.pop_back();
        if (!names.empty()) {
            current = std::move(parent);
            if (names.size() > 1) {
                parent = open_at(current.get(), "..", kDirectory);
            } else {
                parent = open_at(directory, ".", kDirectory);
            }
        }
    }
}

void remove_whole(int directory, const std::string& name, const std::string& path) {
    bool subvolume = false;
    {
        const auto opened = open_at(directory, name, kDirectory);
        subvolume = btrfs::is_subvolume(opened.get());
        AttributeWriter::unseal(opened.get());
    }
    if (subvolume) {
        btrfs::delete_subvolume(directory, name);
    } else {
        remove_tree(directory, name, path);
    }
}

void remove_entry(int directory, const std::string& name, const std::string& path) {
    const auto status = stat_at(directory, name);
    if (status && S_ISDIR(status->stx_mode)) {
        remove_tree(directory, name, path);
    } else if (status) {
        remove_unsealed(directory, name, kFile, path, [&] { return entry::remove(directory, name); });
    }
}

}  // namespace nodesnap
