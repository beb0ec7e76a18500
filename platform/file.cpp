#include "platform/file.h"

#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>
#include <vector>

#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

// Room for the terminating zero, and for a component to be cut off where a piece ends.
constexpr std::size_t kPieceBytes = PATH_MAX - 1;

int retry_openat(int dir, const char* path, int flags, mode_t mode) noexcept {
    if (const int error = fault::inject("open")) {
        return -error;
    }
    int fd = -1;
    do {
        fd = ::openat(dir, path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

// Resolves a piece of a path without following any symlink. Where openat2 is missing or filtered (ENOSYS, or EPERM of old seccomp
// filters), component by component.
int open_beneath(int dir, const std::string& piece, int flags, mode_t mode) noexcept {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC | O_NOFOLLOW));
    how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    long fd = -1;
    do {
        fd = ::syscall(SYS_openat2, dir, piece.c_str(), &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    if (fd >= 0) {
        return static_cast<int>(fd);
    }
    if (errno != ENOSYS && errno != EPERM) {
        return -errno;
    }
    FileDescriptor current;
    std::size_t begin = 0;
    for (;;) {
        const std::size_t slash = piece.find('/', begin);
        const bool last = slash == std::string::npos;
        const std::string component = piece.substr(begin, last ? std::string::npos : slash - begin);
        const int from = current ? current.get() : dir;
        const int next = last ? retry_openat(from, component.c_str(), flags | O_NOFOLLOW, mode)
                              : retry_openat(from, component.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
        if (last || next < 0) {
            return next;
        }
        current.reset(next);
        begin = slash + 1;
    }
}

// Without empty and "." components; empty if the path is the root itself. False for "..", and for an embedded zero.
bool normalize(std::string_view path, std::string& normalized) {
    if (path.find('\0') != std::string_view::npos) {
        return false;
    }
    normalized.reserve(path.size());
    std::size_t begin = 0;
    while (begin < path.size()) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string_view component = path.substr(begin, end - begin);
        if (component == "..") {
            return false;
        }
        if (!component.empty() && component != ".") {
            if (!normalized.empty()) {
                normalized += '/';
            }
            normalized += component;
        }
        begin = end + 1;
    }
    return true;
}

std::string parent_of(const std::string& path) {
    const std::size_t end = path.find_last_not_of('/');
    if (end == std::string::npos) {
        return path.empty() ? "." : "/";
    }
    const std::size_t slash = path.rfind('/', end);
    if (slash == std::string::npos) {
        return ".";
    }
    const std::size_t parent_end = path.find_last_not_of('/', slash);
    return parent_end == std::string::npos ? "/" : path.substr(0, parent_end + 1);
}

bool remove_name(const char* operation, const std::string& path, int flags) {
    int error = fault::inject("unlink");
    if (error == 0 && ::unlinkat(AT_FDCWD, path.c_str(), flags) != 0) {
        error = errno;
    }
    if (error == ENOENT) {
        return false;
    }
    if (error != 0) {
        throw Error::system(operation, path, error);
    }
    return true;
}

}  // namespace

FileDescriptor open_at(int dir, const std::string& path, int flags, mode_t mode) {
    const int fd = retry_openat(dir, path.c_str(), flags, mode);
    if (fd < 0) {
        throw Error::system((flags & O_CREAT) != 0 ? "create" : "open", path, -fd);
    }
    return FileDescriptor(fd);
}

FileDescriptor open_path(const std::string& path, int flags, mode_t mode) {
    return open_at(AT_FDCWD, path, flags, mode);
}

FileDescriptor open_beneath(int top, const std::string& relative, int flags, const std::string& path_for_errors) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    const auto fd = static_cast<int>(::syscall(SYS_openat2, top, relative.c_str(), &how, sizeof how));
    if (fd < 0) {
        throw Error::system("open", path_for_errors, errno);
    }
    return FileDescriptor(fd);
}

int try_open_long(int root, std::string_view relative_path, int flags, mode_t mode) noexcept try {
    std::string path;
    if (!normalize(relative_path, path)) {
        return -EINVAL;
    }
    if (path.empty()) {
        return retry_openat(root, ".", flags, mode);
    }
    if (const int error = fault::inject("open")) {
        return -error;
    }
    FileDescriptor current;
    std::string_view rest = path;
    while (rest.size() > kPieceBytes) {
        const std::size_t cut = rest.rfind('/', kPieceBytes);
        if (cut == std::string_view::npos) {
            return -ENAMETOOLONG;
        }
        const int next = open_beneath(current ? current.get() : root, std::string(rest.substr(0, cut)), O_PATH | O_DIRECTORY, 0);
        if (next < 0) {
            return next;
        }
        current.reset(next);
        rest.remove_prefix(cut + 1);
    }
    return open_beneath(current ? current.get() : root, std::string(rest), flags, mode);
} catch (const std::bad_alloc&) {
    return -ENOMEM;
}

FileDescriptor open_long(int root, std::string_view relative_path, int flags, mode_t mode) {
    const int fd = try_open_long(root, relative_path, flags, mode);
    if (fd < 0) {
        throw Error::system((flags & O_CREAT) != 0 ? "create" : "open", std::string(relative_path), -fd);
    }
    return FileDescriptor(fd);
}

bool clear_status_flag(int fd, int flag) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & flag) != 0 && ::fcntl(fd, F_SETFL, flags & ~flag) == 0;
}

std::size_t pread_some(int fd, std::span<std::byte> into, std::uint64_t offset, const std::string& path) {
    std::size_t done = 0;
    while (done < into.size()) {
        const int injected = fault::inject("read");
        const ssize_t count = injected != 0 ? -1 : ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
        if (count == 0) {
            break;
        }
        if (count > 0) {
            done += static_cast<std::size_t>(count);
        } else if (const int error = injected != 0 ? injected : errno; error != EINTR) {
            throw Error::system("read from", path, error);
        }
    }
    return done;
}

void pread_exact(int fd, std::span<std::byte> into, std::uint64_t offset, const std::string& path) {
    if (pread_some(fd, into, offset, path) != into.size()) {
        throw Error::failed("cannot read from " + path + ": unexpected end of file");
    }
}

void read_exact(int fd, std::span<std::byte> into, const std::string& path) {
    while (!into.empty()) {
        const int injected = fault::inject("read");
        const ssize_t count = injected != 0 ? -1 : ::read(fd, into.data(), into.size());
        if (count == 0) {
            throw Error::failed("cannot read from " + path + ": unexpected end of file");
        }
        if (count > 0) {
            into = into.subspan(static_cast<std::size_t>(count));
        } else if (const int error = injected != 0 ? injected : errno; error != EINTR) {
            throw Error::system("read from", path, error);
        }
    }
}

void pwrite_all(int fd, std::span<const std::byte> from, std::uint64_t offset, const std::string& path) {
    while (!from.empty()) {
        const int injected = fault::inject("write");
        const ssize_t count = injected != 0 ? -1 : ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
        if (count > 0) {
            from = from.subspan(static_cast<std::size_t>(count));
            offset += static_cast<std::uint64_t>(count);
        } else if (const int error = injected != 0 ? injected : count == 0 ? ENOSPC : errno; error != EINTR) {
            throw Error::system("write to", path, error);
        }
    }
}

std::uint64_t copy_some(int from, int to, std::uint64_t offset, std::uint64_t length, const std::string& path) {
    const int injected = fault::inject("copy");
    auto in = static_cast<off_t>(offset);
    off_t out = in;
    const ssize_t count = injected != 0 ? -1 : ::copy_file_range(from, &in, to, &out, length, 0);
    if (count >= 0) {
        return static_cast<std::uint64_t>(count);
    }
    const int error = injected != 0 ? injected : errno;
    if (error == EINTR) {
        return copy_some(from, to, offset, length, path);
    }
    if (error != EXDEV && error != EINVAL && error != EOPNOTSUPP && error != ENOSYS) {
        throw Error::system("copy", path, error);
    }
    constexpr std::uint64_t kPiece = 256U << 10;
    std::vector<std::byte> piece(std::min(length, kPiece));
    piece.resize(pread_some(from, piece, offset, path));
    pwrite_all(to, piece, offset, path);
    return piece.size();
}

void write_all(int fd, std::span<const std::byte> from, const std::string& path) {
    while (!from.empty()) {
        const int injected = fault::inject("write");
        const ssize_t count = injected != 0 ? -1 : ::write(fd, from.data(), from.size());
        if (count > 0) {
            from = from.subspan(static_cast<std::size_t>(count));
        } else if (const int error = injected != 0 ? injected : count == 0 ? ENOSPC : errno; error != EINTR) {
            throw Error::system("write to", path, error);
        }
    }
}

void sync_file(int fd, const std::string& path, bool data_only) {
    int error = fault::inject("fsync");
    if (error == 0 && (data_only ? ::fdatasync(fd) : ::fsync(fd)) != 0) {
        error = errno;
    }
    if (error != 0) {
        // Never tried again: after a failed fsync the kernel may have dropped the dirty pages, and a second call would succeed.
        throw Error::system("sync", path, error);
    }
}

void sync_directory(int fd, const std::string& path) {
    int error = fault::inject("fsync");
    if (error == 0 && ::fsync(fd) != 0) {
        error = errno;
    }
    if (error != 0 && error != EINVAL) {  // some network file systems can't, and have nothing to flush
        throw Error::system("sync", path, error);
    }
}

void sync_directory(const std::string& path) {
    sync_directory(open_path(path, O_RDONLY | O_DIRECTORY).get(), path);
}

void sync_file_system(int fd, const std::string& path) {
    int error = fault::inject("syncfs");
    if (error == 0 && ::syncfs(fd) != 0) {
        error = errno;
    }
    if (error != 0) {
        throw Error::system("sync the file system of", path, error);
    }
}

// Any operation that takes the inode's lock would do.
void wait_for_writer(int fd, const std::string& path_for_errors) {
    if (::lseek(fd, 0, SEEK_DATA) < 0 && errno != ENXIO) {  // ENXIO: there is no data
        throw Error::system("look for data in", path_for_errors, errno);
    }
}

bool remove_file(const std::string& path) {
    return remove_name("remove", path, 0);
}
bool remove_directory(const std::string& path) {
    return remove_name("remove directory", path, AT_REMOVEDIR);
}

bool make_directories(const std::string& path, mode_t mode) {
    int error = fault::inject("mkdir");
    if (error == 0 && ::mkdir(path.c_str(), mode) != 0) {
        error = errno;
    }
    if (error == ENOENT && parent_of(path) != path && parent_of(path) != ".") {
        make_directories(parent_of(path), mode);
        error = ::mkdir(path.c_str(), mode) != 0 ? errno : 0;
    }
    if (error == EEXIST || error == EISDIR) {
        const auto status = stat_path(path);
        if (status && S_ISDIR(status->stx_mode)) {
            return false;
        }
        error = ENOTDIR;
    }
    if (error != 0) {
        throw Error::system("create directory", path, error);
    }
    sync_directory(parent_of(path));
    return true;
}

std::optional<std::string> read_small_file(const std::string& path, std::size_t limit) {
    const int fd = retry_openat(AT_FDCWD, path.c_str(), O_RDONLY, 0);
    if (fd == -ENOENT || fd == -ENOTDIR) {
        return std::nullopt;
    }
    if (fd < 0) {
        throw Error::system("open", path, -fd);
    }
    const FileDescriptor file(fd);
    std::string content;
    std::array<char, 4096> buffer;
    while (content.size() < limit) {
        const int injected = fault::inject("read");
        const ssize_t count = injected != 0 ? -1 : ::read(file.get(), buffer.data(), std::min(buffer.size(), limit - content.size()));
        if (count == 0) {
            break;
        }
        if (count > 0) {
            content.append(buffer.data(), static_cast<std::size_t>(count));
        } else if (const int error = injected != 0 ? injected : errno; error != EINTR) {
            throw Error::system("read from", path, error);
        }
    }
    return content;
}

void write_file_durably(const std::string& path, std::string_view content, mode_t mode) {
    const std::string directory = parent_of(path);
    std::string temporary = directory + "/.nodesnap-XXXXXX";
    const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
    if (fd < 0) {
        throw Error::system("create a file in", directory, errno);
    }
    const FileDescriptor file(fd);
    try {
        write_all(file.get(), std::as_bytes(std::span(content)), temporary);
        if (::fchmod(file.get(), mode) != 0) {
            throw Error::system("change the mode of", temporary, errno);
        }
        sync_file(file.get(), temporary);
        fault::step("file.synced");
        rename_file(temporary, path);
    } catch (...) {
        ::unlink(temporary.c_str());
        throw;
    }
    fault::step("file.renamed");
    sync_directory(directory);
}

}  // namespace nodesnap
