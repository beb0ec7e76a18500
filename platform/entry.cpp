#include "platform/entry.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "platform/fault.h"

namespace nodesnap::entry {
namespace {

// Repeats what a signal cut off.
template <typename Call>
int attempt(const char* operation, Call call) noexcept {
    if (const int injected = fault::inject(operation); injected != 0) {
        return injected;
    }
    while (call() != 0) {
        if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

struct Timespecs {
    timespec value[2];
    explicit Timespecs(const Times& times) noexcept
        : value{{times.accessed_seconds, static_cast<long>(times.accessed_nanoseconds)},
                {times.modified_seconds, static_cast<long>(times.modified_nanoseconds)}} {}
};

}  // namespace

int make_directory(int directory, const std::string& name, mode_t mode) noexcept {
    return attempt("mkdir", [&] { return ::mkdirat(directory, name.c_str(), mode); });
}

int make_node(int directory, const std::string& name, mode_t type_and_mode, std::uint32_t device_major,
              std::uint32_t device_minor) noexcept {
    return attempt("mknod", [&] { return ::mknodat(directory, name.c_str(), type_and_mode, makedev(device_major, device_minor)); });
}

int make_symlink(const std::string& target, int directory, const std::string& name) noexcept {
    return attempt("symlink", [&] { return ::symlinkat(target.c_str(), directory, name.c_str()); });
}

int link(int from_directory, const std::string& from, int to_directory, const std::string& to) noexcept {
    return attempt("link", [&] { return ::linkat(from_directory, from.c_str(), to_directory, to.c_str(), 0); });
}

int rename(int from_directory, const std::string& from, int to_directory, const std::string& to) noexcept {
    return attempt("rename", [&] { return ::renameat(from_directory, from.c_str(), to_directory, to.c_str()); });
}

int remove(int directory, const std::string& name) noexcept {
    return attempt("unlink", [&] { return ::unlinkat(directory, name.c_str(), 0); });
}

int remove_directory(int directory, const std::string& name) noexcept {
    return attempt("rmdir", [&] { return ::unlinkat(directory, name.c_str(), AT_REMOVEDIR); });
}

int set_owner(int fd, uid_t uid, gid_t gid) noexcept {
    return attempt("chown", [&] { return ::fchown(fd, uid, gid); });
}

int set_owner_at(int directory, const std::string& name, uid_t uid, gid_t gid) noexcept {
    return attempt("chown", [&] { return ::fchownat(directory, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW); });
}

int set_mode(int fd, mode_t mode) noexcept {
    return attempt("chmod", [&] { return ::fchmod(fd, mode); });
}

int set_mode_at(int directory, const std::string& name, mode_t mode) noexcept {
    return attempt("chmod", [&] {
        struct stat status {};
        if (::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
            return -1;
        }
        if (S_ISLNK(status.st_mode)) {
            errno = EOPNOTSUPP;
            return -1;
        }
        return ::fchmodat(directory, name.c_str(), mode, 0);
    });
}

int set_times(int fd, const Times& times) noexcept {
    const Timespecs spec(times);
    return attempt("utimens", [&] { return ::futimens(fd, spec.value); });
}

int set_times_at(int directory, const std::string& name, const Times& times) noexcept {
    const Timespecs spec(times);
    return attempt("utimens", [&] { return ::utimensat(directory, name.c_str(), spec.value, AT_SYMLINK_NOFOLLOW); });
}

int truncate(int fd, std::uint64_t size) noexcept {
    return attempt("truncate", [&] { return ::ftruncate(fd, static_cast<off_t>(size)); });
}

int allocate(int fd, bool keep_size, std::uint64_t offset, std::uint64_t length) noexcept {
    return attempt("fallocate", [&] {
        return ::fallocate(fd, keep_size ? FALLOC_FL_KEEP_SIZE : 0, static_cast<off_t>(offset), static_cast<off_t>(length));
    });
}

int punch_hole(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
    return attempt("fallocate", [&] {
        return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(length));
    });
}

int clone_file(int from, int to) noexcept {
    return attempt("clone", [&] { return ::ioctl(to, FICLONE, from); });
}

int link_open(int fd, int directory, const std::string& name) noexcept {
    return attempt("link", [&] { return ::linkat(fd, "", directory, name.c_str(), AT_EMPTY_PATH); });
}

bool may_write(const std::string& directory) noexcept {
    return ::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
}

int lock_exclusive(int fd) noexcept {
    return attempt("lock", [&] { return ::flock(fd, LOCK_EX | LOCK_NB); });
}

int lock_shared(int fd) noexcept {
    return attempt("lock", [&] { return ::flock(fd, LOCK_SH | LOCK_NB); });
}

namespace {

constexpr rlim_t kUsualDescriptors = 1024;  // when the kernel doesn't tell

}  // namespace

std::uint64_t descriptor_limit() noexcept {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : kUsualDescriptors;
}

std::uint64_t raise_descriptor_limit(std::uint64_t wanted) noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return kUsualDescriptors;
    }
    if (limit.rlim_max < wanted) {
        const rlimit raised{wanted, wanted};
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            return wanted;
        }
    }
    if (limit.rlim_cur < limit.rlim_max) {
        rlimit raised = limit;
        raised.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    return limit.rlim_cur;
}

}  // namespace nodesnap::entry
