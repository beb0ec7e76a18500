// The part of platform/file.h that renames and looks at names.
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr unsigned kStatMask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;

[[noreturn]] void throw_rename_error(const std::string& from, const std::string& to, int error) {
    throw Error::system("rename " + from + " to", to, error);
}

// For file systems without RENAME_NOREPLACE (some network ones). A file gets its second name by link(), which never replaces; a directory
// can at worst replace an empty one, since rename() itself refuses others.
int rename_no_replace_by_hand(int from_dir, const char* from, int to_dir, const char* to) {
    struct stat status {};
    if (::fstatat(from_dir, from, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    if (!S_ISDIR(status.st_mode)) {
        if (::linkat(from_dir, from, to_dir, to, 0) != 0) {
            return errno;
        }
        return ::unlinkat(from_dir, from, 0) != 0 ? errno : 0;
    }
    struct stat existing {};
    if (::fstatat(to_dir, to, &existing, AT_SYMLINK_NOFOLLOW) == 0) {
        return EEXIST;
    }
    return ::renameat(from_dir, from, to_dir, to) != 0 ? errno : 0;
}

}  // namespace

void rename_file(const std::string& from, const std::string& to) {
    int error = fault::inject("rename");
    if (error == 0 && ::rename(from.c_str(), to.c_str()) != 0) {
        error = errno;
    }
    if (error != 0) {
        throw_rename_error(from, to, error);
    }
}

bool rename_no_replace(int from_dir, const std::string& from, int to_dir, const std::string& to) {
    int error = fault::inject("rename");
    if (error == 0 && ::renameat2(from_dir, from.c_str(), to_dir, to.c_str(), RENAME_NOREPLACE) != 0) {
        error = errno;
        if (error == EINVAL || error == ENOSYS) {
            error = rename_no_replace_by_hand(from_dir, from.c_str(), to_dir, to.c_str());
        }
    }
    if (error == EEXIST) {
        return false;
    }
    if (error != 0) {
        throw_rename_error(from, to, error);
    }
    return true;
}

bool rename_no_replace(const std::string& from, const std::string& to) {
    return rename_no_replace(AT_FDCWD, from, AT_FDCWD, to);
}

void rename_exchange(int from_dir, const std::string& from, int to_dir, const std::string& to) {
    int error = fault::inject("rename");
    if (error == 0 && ::renameat2(from_dir, from.c_str(), to_dir, to.c_str(), RENAME_EXCHANGE) != 0) {
        error = errno;
    }
    if (error != 0) {
        throw Error::system("exchange " + from + " with", to, error);
    }
}

void rename_exchange(const std::string& from, const std::string& to) {
    rename_exchange(AT_FDCWD, from, AT_FDCWD, to);
}

FileStatus stat_fd(int fd, const std::string& path_for_errors) {
    FileStatus status{};
    int error = fault::inject("stat");
    if (error == 0 && ::statx(fd, "", AT_EMPTY_PATH, kStatMask, &status) != 0) {
        error = errno;
    }
    if (error != 0) {
        throw Error::system("stat", path_for_errors, error);
    }
    return status;
}

std::optional<FileStatus> stat_at(int dir, const std::string& name, int flags) {
    FileStatus status{};
    int error = fault::inject("stat");
    if (error == 0 && ::statx(dir, name.c_str(), flags, kStatMask, &status) != 0) {
        error = errno;
    }
    if (error == ENOENT || error == ENOTDIR) {
        return std::nullopt;
    }
    if (error != 0) {
        throw Error::system("stat", name, error);
    }
    return status;
}

std::optional<FileStatus> stat_path(const std::string& path, int flags) {
    return stat_at(AT_FDCWD, path, flags);
}

std::uint64_t device_of(const FileStatus& status) {
    return makedev(status.stx_dev_major, status.stx_dev_minor);
}

std::string read_link(int dir, const std::string& name, const std::string& path_for_errors) {
    std::string target(PATH_MAX, '\0');  // no file system stores longer ones
    const ssize_t length = ::readlinkat(dir, name.c_str(), target.data(), target.size());
    if (length < 0) {
        throw Error::system("read the symlink", path_for_errors.empty() ? name : path_for_errors, errno);
    }
    target.resize(static_cast<std::size_t>(length));
    return target;
}

std::string resolve_path(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr), &std::free);
    if (!resolved) {
        throw Error::system("find", path, errno);
    }
    return resolved.get();
}

}  // namespace nodesnap
