#include "io/target/folders.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "io/target/object_name.h"
#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr mode_t kFolderMode = 0700;

const char* or_dot(const std::string& folder) {
    return folder.empty() ? "." : folder.c_str();
}

// The result of a system call that returns -1 with errno, as a negative errno.
template <typename Call>
int attempt(const char* operation, Call call) noexcept {
    if (const int injected = fault::inject(operation)) {
        return -injected;
    }
    while (true) {
        const int result = call();
        if (result >= 0) {
            return result;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

}  // namespace

int Folders::try_open(const std::string& name, int flags, mode_t mode) const noexcept {
    return attempt("target.open", [&] { return ::openat(root(), name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode); });
}

FileDescriptor Folders::open_folder(const std::string& folder) const {
    const int fd = try_open(or_dot(folder), O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        throw error("open", folder, -fd);
    }
    return FileDescriptor(fd);
}

std::vector<std::string> Folders::make_above(std::string_view name) {
    std::vector<std::string> changed;
    for (std::size_t slash = name.find('/'); slash != std::string_view::npos; slash = name.find('/', slash + 1)) {
        const std::string folder(name.substr(0, slash));
        const int present = attempt("target.stat", [&] { return ::faccessat(root(), folder.c_str(), F_OK, 0); });
        if (present == 0) {
            continue;
        }
        const int made = attempt("target.mkdir", [&] { return ::mkdirat(root(), folder.c_str(), kFolderMode); });
        if (made < 0 && made != -EEXIST) {
            throw error("make the folder", folder, -made);
        }
        // Also when another process was faster: it may not have synced yet.
        changed.push_back(folder_of(folder));
    }
    return changed;
}

void Folders::sync(const std::string& folder) const {
    sync_directory(open_folder(folder).get(), place(folder));
}

bool Folders::move_new(const std::string& from, const std::string& to) const {
    const int moved = attempt("target.rename", [&] { return ::renameat2(root(), from.c_str(), root(), to.c_str(), RENAME_NOREPLACE); });
    if (moved == 0) {
        return true;
    }
    if (moved == -EEXIST) {
        return false;
    }
    if (moved != -EINVAL && moved != -ENOSYS) {
        throw error("create", to, -moved);
    }
    // Network file systems without RENAME_NOREPLACE have links.
    const int linked = attempt("target.link", [&] { return ::linkat(root(), from.c_str(), root(), to.c_str(), 0); });
    if (linked < 0 && linked != -EEXIST) {
        throw error("create", to, -linked);
    }
    if (linked == 0) {
        (void)attempt("target.unlink", [&] { return ::unlinkat(root(), from.c_str(), 0); });  // else abandon() finds it
    }
    return linked == 0;
}

void Folders::replace(const std::string& from, const std::string& to) const {
    const int moved = attempt("target.rename", [&] { return ::renameat(root(), from.c_str(), root(), to.c_str()); });
    if (moved < 0) {
        throw error("replace", to, -moved);
    }
}

bool Folders::remove(const std::string& name) {
    const int removed = attempt("target.unlink", [&] { return ::unlinkat(root(), name.c_str(), 0); });
    if (removed == -ENOENT || removed == -ENOTDIR) {
        return false;
    }
    if (removed < 0) {
        throw error("remove", name, -removed);
    }
    const std::lock_guard lock(mutex_);
    removals_.insert(folder_of(name));
    return true;
}

void Folders::sync_removals() {
    std::set<std::string> folders;
    {
        const std::lock_guard lock(mutex_);
        folders.swap(removals_);
    }
    try {
        for (const std::string& folder : folders) {
            sync(folder);
        }
    } catch (...) {
        const std::lock_guard lock(mutex_);
        removals_.merge(folders);
        throw;
    }
}

void Folders::persist_removals(const std::string& folder) const {
    const int fd = try_open(or_dot(folder), O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT) {
        return;
    }
    if (fd < 0) {
        throw error("open", folder, -fd);
    }
    sync_directory(FileDescriptor(fd).get(), place(folder));
}

Error Folders::error(const std::string& operation, std::string_view name, int error_number) const {
    std::string hint;
    if (is_space_error(error_number)) {
        hint = "free space (or raise the quota) where " + path_ + " lies, then run it again";
    } else if (error_number == EROFS) {
        hint = path_ + " is mounted read-only; mount it writable to change the repository";
    }
    return Error::system(operation, name.empty() ? path_ : place(name), error_number, hint);
}

}  // namespace nodesnap
