#include "platform/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <tuple>

#include "platform/clock.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap {
namespace {

constexpr std::size_t kTextLimit = 16u << 20;  // members of one cgroup: two million pids

std::string mount_or_refuse() {
    auto mount = Cgroup::mount_point();
    if (!mount) {
        throw Error::refused("this host has no cgroup v2",
                             "boot with systemd.unified_cgroup_hierarchy=1, or hold the daemon in another way");
    }
    return *std::move(mount);
}

std::string absolute(const std::string& path) {
    return mount_or_refuse() + (path == "/" ? "" : path);
}

// The cgroup went away: its directory (ENOENT), or what an open file of it belonged to (ENODEV).
bool is_gone(int error_number) {
    return error_number == ENODEV || error_number == ENOENT;
}

// The files of a cgroup are read from their beginning each time. nullopt if it is gone.
std::optional<std::string> read_again(int fd, const std::string& path) {
    std::string text;
    std::array<char, 4096> buffer;
    for (;;) {
        if (const int error = fault::inject("cgroup-read")) {
            throw Error::system("read", path, error);
        }
        const ssize_t count = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0 && is_gone(errno)) {
            return std::nullopt;
        }
        if (count < 0) {
            throw Error::system("read", path, errno);
        }
        if (count == 0) {
            return text;
        }
        if (text.size() > kTextLimit) {
            throw Error::system("read", path, EFBIG);
        }
        text.append(buffer.data(), static_cast<std::size_t>(count));
    }
}

int write_word(int fd, std::string_view word, const char* operation) {
    if (const int error = fault::inject(operation)) {
        return error;
    }
    ssize_t count = -1;
    do {
        count = ::pwrite(fd, word.data(), word.size(), 0);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? errno : 0;
}

// "populated 1\nfrozen 0\n"
bool is_set(std::string_view text, std::string_view key) {
    const std::size_t at = text.find(key);
    return at != std::string_view::npos && at + key.size() + 1 < text.size() && text[at + key.size() + 1] == '1';
}

void append_pids(std::string_view text, std::vector<pid_t>& pids) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        pid_t pid = 0;
        if (std::from_chars(text.data(), text.data() + end, pid).ec == std::errc() && pid > 0) {
            pids.push_back(pid);
        }
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

// Those of the cgroup at `directory` and of all below. Cgroups nest at most as deep as paths are long.
void collect(FileDescriptor directory, const std::string& path, std::vector<pid_t>& pids) {
    // In a threaded cgroup cgroup.procs can't be read; its threads can, and their processes are members of the domain above it.
    for (const char* name : {"cgroup.procs", "cgroup.threads"}) {
        const int fd = try_open_long(directory.get(), name, O_RDONLY);
        if (fd < 0 && is_gone(-fd)) {
            return;
        }
        if (fd < 0) {
            throw Error::system("open", path + "/" + name, -fd);
        }
        const FileDescriptor file(fd);
        try {
            append_pids(read_again(file.get(), path + "/" + name).value_or(""), pids);
            break;
        } catch (const Error& error) {
            if (error.error_number() != EOPNOTSUPP) {
                throw;
            }
        }
    }
    std::vector<std::string> children;
    const int again = try_open_long(directory.get(), ".", O_RDONLY | O_DIRECTORY);
    if (again < 0) {
        return;
    }
    DirectoryStream stream(FileDescriptor(again), path);
    for (DirectoryEntry entry; stream.next(entry);) {
        if (entry.d_type == DT_DIR) {
            children.push_back(entry.name);
        }
    }
    for (const std::string& child : children) {
        const int fd = try_open_long(directory.get(), child, O_RDONLY | O_DIRECTORY);
        if (fd >= 0) {
            collect(FileDescriptor(fd), (path + "/").append(child), pids);
        }
    }
}

}  // namespace

std::optional<std::string> Cgroup::mount_point() {
    for (const Mount& mount : list_mounts()) {
        // A part of the tree that is mounted somewhere (in a container) isn't what the paths in /proc count from.
        if (mount.type == "cgroup2" && mount.root == "/") {
            return mount.mount_point;
        }
    }
    return std::nullopt;
}

std::optional<std::string> Cgroup::path_of(pid_t pid) {
    const std::string file = "/proc/" + std::to_string(pid) + "/cgroup";
    std::optional<std::string> text;
    try {
        text = read_small_file(file);
    } catch (const Error& error) {
        if (error.error_number() != ESRCH) {
            throw;
        }
    }
    if (!text) {
        return std::nullopt;
    }
    // "0::/path" is cgroup v2's line among those of v1's hierarchies.
    std::size_t at = text->starts_with("0::") ? 0 : text->find("\n0::");
    if (at == std::string::npos) {
        mount_or_refuse();
        return std::nullopt;  // a process that is ending has lost its line
    }
    at = text->find("0::", at) + 3;
    std::string path = text->substr(at, text->find('\n', at) - at);
    if (path.starts_with("/..")) {
        throw Error::refused("process " + std::to_string(pid) + " is in a cgroup that can't be seen from here",
                             "run nodesnap on the host instead of in a container");
    }
    constexpr std::string_view kDeleted = " (deleted)";
    if (path.ends_with(kDeleted)) {
        return std::nullopt;  // a zombie in a cgroup that was removed
    }
    return path;
}

std::optional<Cgroup> Cgroup::open(const std::string& path) {
    const std::string directory = absolute(path);
    Cgroup cgroup;
    cgroup.path_ = path;
    cgroup.directory_path_ = directory;
    for (const auto& [name, flags, descriptor] :
         {std::tuple{"", O_RDONLY | O_DIRECTORY, &cgroup.directory_}, std::tuple{"/cgroup.freeze", O_RDWR, &cgroup.freeze_},
          std::tuple{"/cgroup.events", O_RDONLY, &cgroup.events_}, std::tuple{"/cgroup.procs", O_WRONLY, &cgroup.procs_}}) {
        const bool is_directory = descriptor == &cgroup.directory_;
        try {
            *descriptor = open_path(directory + name, flags);
        } catch (const Error& error) {
            const bool read_only = error.error_number() == EACCES || error.error_number() == EROFS;
            if (is_directory && is_gone(error.error_number())) {
                return std::nullopt;
            }
            if (is_directory || (!is_gone(error.error_number()) && !(read_only && descriptor == &cgroup.procs_))) {
                throw;
            }
        }
    }
    cgroup.id_ = stat_fd(cgroup.directory_.get(), directory).stx_ino;
    if (path != "/" && !cgroup.freeze_ && !stat_path(directory)) {
        return std::nullopt;  // it went away between the opens
    }
    return cgroup;
}

Cgroup Cgroup::make(const std::string& path) {
    const std::string directory = absolute(path);
    if (const int error = entry::make_directory(AT_FDCWD, directory, 0755)) {
        throw Error::system("make cgroup", directory, error);
    }
    auto cgroup = open(path);
    if (!cgroup) {
        throw Error::system("open", directory, ENOENT);
    }
    return *std::move(cgroup);
}

bool Cgroup::remove(const std::string& path) {
    const std::string directory = absolute(path);
    const int error = entry::remove_directory(AT_FDCWD, directory);
    if (error != 0 && error != ENOENT && error != EBUSY && error != ENOTEMPTY) {
        throw Error::system("remove cgroup", directory, error);
    }
    return error == 0;
}

std::vector<std::string> Cgroup::ancestors(const std::string& path) {
    std::vector<std::string> all;
    if (path != "/") {
        all.emplace_back("/");
    }
    for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
        all.push_back(path.substr(0, at));
    }
    return all;
}

std::optional<bool> Cgroup::freeze_requested() const {
    const auto text = read_again(freeze_.get(), path_ + "/cgroup.freeze");
    return text ? std::optional(text->starts_with('1')) : std::nullopt;
}

bool Cgroup::request_freeze(bool frozen) {
    const int error = write_word(freeze_.get(), frozen ? "1" : "0", frozen ? "cgroup-freeze" : "cgroup-thaw");
    if (error != 0 && !is_gone(error)) {
        throw Error::system("write to", path_ + "/cgroup.freeze", error);
    }
    return error == 0;
}

void Cgroup::watch_freeze() {
    const std::string file = directory_path_ + "/cgroup.freeze";
    watch_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch_ || ::inotify_add_watch(watch_.get(), file.c_str(), IN_MODIFY) < 0) {
        throw Error::system("watch", file, errno);
    }
}

bool Cgroup::freeze_written() const {
    alignas(inotify_event) std::array<char, 4096> events;
    bool written = false;
    while (::read(watch_.get(), events.data(), events.size()) > 0) {
        written = true;
    }
    return written;
}

std::optional<Cgroup::Events> Cgroup::events() const {
    const auto text = read_again(events_.get(), path_ + "/cgroup.events");
    return text ? std::optional(Events{is_set(*text, "populated"), is_set(*text, "frozen")}) : std::nullopt;
}

std::optional<bool> Cgroup::wait_frozen(bool frozen, std::int64_t deadline_ns) const {
    for (;;) {
        const auto now = events();
        if (!now || now->frozen == frozen) {
            return now ? std::optional(true) : std::nullopt;
        }
        if (monotonic_ns() >= deadline_ns) {
            return false;
        }
        // The kernel tells of changes at most every 10 ms, so the state may be there long before poll says so.
        pollfd changed{events_.get(), POLLPRI, 0};
        ::poll(&changed, 1, 1);
    }
}

std::vector<pid_t> Cgroup::processes() const {
    std::vector<pid_t> pids;
    const int fd = try_open_long(directory_.get(), ".", O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        collect(FileDescriptor(fd), directory_path_, pids);
    } else if (!is_gone(-fd)) {
        throw Error::system("open", directory_path_, -fd);
    }
    std::sort(pids.begin(), pids.end());
    pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
    return pids;
}

void Cgroup::move_here(pid_t pid) {
    if (const int error = write_word(procs_.get(), std::to_string(pid), "cgroup-move")) {
        throw Error::system("move process " + std::to_string(pid) + " to", path_, error);
    }
}

void Cgroup::kill_all() {
    const std::string file = directory_path_ + "/cgroup.kill";
    const FileDescriptor kill = open_path(file, O_WRONLY);
    if (const int error = write_word(kill.get(), "1", "cgroup-kill"); error != 0 && !is_gone(error)) {
        throw Error::system("write to", file, error);
    }
}

bool Cgroup::try_lock(bool exclusive) {
    const int error = exclusive ? entry::lock_exclusive(directory_.get()) : entry::lock_shared(directory_.get());
    if (error != 0 && error != EWOULDBLOCK) {
        throw Error::system("lock", path_, error);
    }
    return error == 0;
}

}  // namespace nodesnap
