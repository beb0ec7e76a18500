#include "snapshot/backend/snapshot_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string_view>
#include <thread>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"

namespace nodesnap {
namespace {

// The folder holds what the daemon's user may not see or change, below a directory that may be that user's own: so it must be ours.
void check_folder(int folder, const std::string& path) {
    struct stat status {};
    if (::fstat(folder, &status) != 0) {
        throw Error::system("stat", path, errno);
    }
    if (status.st_uid != ::geteuid()) {
        throw Error::refused("the snapshot folder " + path + " belongs to another user (id " + std::to_string(status.st_uid) + ")",
                             "remove it, or name another directory with --snapshot-dir");
    }
    if ((status.st_mode & 077) != 0 && ::fchmod(folder, 0700) != 0) {
        throw Error::system("change the mode of", path, errno);
    }
}

}  // namespace

std::string parent_of_path(const std::string& absolute) {
    const std::size_t slash = absolute.rfind('/');
    return slash == 0 ? "/" : absolute.substr(0, slash);
}

std::string join_path(const std::string& directory, const std::string& name) {
    return directory == "/" ? directory + name : directory + "/" + name;
}

void inherit_nothing(int fd, unsigned mode, const std::string& shown) {
    for (const char* attribute : {"system.posix_acl_default", "system.posix_acl_access", "btrfs.compression"}) {
        xattr::remove(fd, attribute, shown);
    }
    if (inode_flags(fd, shown).value_or(0) != 0) {
        set_inode_flags(fd, 0, shown);
    }
    if (const int failed = entry::set_owner(fd, ::geteuid(), ::getegid()); failed != 0) {
        throw Error::system("set the owner of", shown, failed);
    }
    if (const int failed = entry::set_mode(fd, mode); failed != 0) {
        throw Error::system("set the mode of", shown, failed);
    }
}

FileDescriptor open_own_folder(int parent, const std::string& name, const std::string& shown, bool make) {
    if (make && ::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST) {
        throw Error::system("create directory", shown, errno);
    }
    const int fd = ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !make) {
        return {};
    }
    if (fd < 0) {
        throw Error::system("open the snapshot folder", shown, errno);
    }
    FileDescriptor folder(fd);
    check_folder(fd, shown);
    return folder;
}

NamedFolder named_folder(const std::string& directory) {
    std::string trimmed = directory;
    while (trimmed.size() > 1 && trimmed.ends_with('/')) {
        trimmed.pop_back();
    }
    const bool exists = stat_path(trimmed).has_value();
    const std::string parent = trimmed.find('/') == std::string::npos ? "." : parent_of_path(trimmed);
    const std::string path = exists ? resolve_path(trimmed) : join_path(resolve_path(parent), trimmed.substr(trimmed.rfind('/') + 1));
    return {path, exists ? path : parent};
}

void refuse_folder_inside(const std::string& folder, const std::string& node_directory, const ExcludeRules& excludes) {
    const std::string prefix = join_path(node_directory, "");
    if (folder == node_directory ||
        (folder.starts_with(prefix) && !excludes.matches_tree(std::string_view(folder).substr(prefix.size()), true))) {
        throw Error::refused("the snapshot directory " + folder + " lies inside the node directory",
                             folder == node_directory ? "name another one with --snapshot-dir"
                                                      : "name another one with --snapshot-dir, or leave it out with " +
                                                            exclude_option_of(std::string_view(folder).substr(prefix.size())));
    }
}

bool lock_for_use(int root) {
    constexpr std::chrono::milliseconds kBetween(10);
    int failed = entry::lock_shared(root);
    for (int attempts = 100; failed == EWOULDBLOCK && attempts > 0; --attempts) {
        std::this_thread::sleep_for(kBetween);
        failed = entry::lock_shared(root);
    }
    return failed == 0;
}

}  // namespace nodesnap
