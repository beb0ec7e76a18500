#include "platform/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <map>
#include <memory>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_descriptor.h"
#include "platform/mount.h"

namespace nodesnap {
namespace {

constexpr std::size_t kMountinfoLimit = 64u << 20;

bool at_or_below(std::string_view path, std::string_view directory) {
    return path.starts_with(directory) && (path.size() == directory.size() || directory == "/" || path[directory.size()] == '/');
}

// What is left of `path` after `directory`, which it lies at or below; without a leading '/'.
std::string_view rest_of(std::string_view path, std::string_view directory) {
    path.remove_prefix(directory.size());
    if (path.starts_with('/')) {
        path.remove_prefix(1);
    }
    return path;
}

std::string join(std::string_view directory, std::string_view rest) {
    std::string path(directory);
    if (!rest.empty()) {
        path += path.ends_with('/') || path.empty() ? "" : "/";
        path += rest;
    }
    return path;
}

std::optional<std::string> try_read_link(const std::string& path) {
    std::array<char, PATH_MAX> target;
    const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
    if (length < 0) {
        return std::nullopt;
    }
    return std::string(target.data(), static_cast<std::size_t>(length));
}

// What is read here has no fault points: how much there is depends on what else runs on the machine, and a process that can't be read is
// skipped anyway.
std::string read_or_empty(const std::string& path, std::size_t limit = 4096) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string content;
    std::array<char, 4096> buffer;
    while (file && content.size() < limit) {
        const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
        if (count <= 0) {
            break;
        }
        content.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return content;
}

// Calls back with each name in a directory of /proc that is a number; an errno if it can't be read.
template <typename Each>
int for_each_number(const std::string& directory, Each each) {
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), &::closedir);
    if (!stream) {
        return errno;
    }
    while (const dirent* entry = ::readdir(stream.get())) {
        int number = 0;
        const std::string_view name = entry->d_name;
        if (std::from_chars(name.data(), name.data() + name.size(), number).ptr == name.data() + name.size()) {
            each(number);
        }
    }
    return 0;
}

// One name under which some mount shows the directory, or a part of it.
struct Alias {
    std::string path;
    std::string relative;  // of what the path names, from the directory
};

// The directory's names in the mount namespaces of other processes.
class Aliases {
public:
    explicit Aliases(const std::string& directory) : mount_(mount_of(directory)) {
        in_file_system_ = join(mount_.root, rest_of(resolve_path(directory), mount_.mount_point == "/" ? "" : mount_.mount_point));
    }

    // As the links of /proc/PID spell them. Those are paths from our root, or, where the process lives in another mount namespace, from
    // that one's; its mountinfo counts from its own root, which `root` (the link of that name) leads to.
    const std::vector<Alias>& of(const std::string& process, const std::string& name_space, const std::string& root) {
        const bool ours = name_space == name_space_;
        const std::string key = ours ? name_space : name_space + root;
        const auto known = known_.find(key);
        if (known != known_.end()) {
            return known->second;
        }
        if (known_.size() >= kMostNameSpaces) {
            known_.clear();
        }
        return known_[key] = find(ours ? "/proc/self" : process, ours ? "/" : root);
    }

private:
    static constexpr std::size_t kMostNameSpaces = 1024;

    std::vector<Alias> find(const std::string& process, const std::string& root) const {
        std::vector<Alias> aliases;
        for (const Mount& mount : parse_mountinfo(read_or_empty(process + "/mountinfo", kMountinfoLimit))) {
            if (mount.device != mount_.device || mount.type != mount_.type) {
                continue;
            }
            const std::string mount_point = join(root, rest_of(mount.mount_point, ""));
            if (at_or_below(in_file_system_, mount.root)) {
                aliases.push_back({join(mount_point, rest_of(in_file_system_, mount.root)), ""});
            } else if (at_or_below(mount.root, in_file_system_)) {
                aliases.push_back({mount_point, std::string(rest_of(mount.root, in_file_system_))});
            }
        }
        return aliases;
    }

    Mount mount_;
    std::string name_space_ = try_read_link("/proc/self/ns/mnt").value_or("");
    std::string in_file_system_;  // the directory's path from the file system's own root
    std::map<std::string, std::vector<Alias>> known_;
};

// Collects the uses by one process after another, at most `limit` of either kind.
class Search {
public:
    Search(const std::string& directory, std::size_t limit) : aliases_(directory), limit_(limit) {}

    void look_at(pid_t pid) {
        process_ = "/proc/" + std::to_string(pid);
        const auto name_space = try_read_link(process_ + "/ns/mnt");
        const auto root = try_read_link(process_ + "/root");
        if (!name_space || !root) {
            count_hidden(pid, errno);
            return;
        }
        user_ = {pid, "", "", "", "", false, 0};
        const std::vector<Alias>& names = aliases_.of(process_, *name_space, *root);
        for (const char* link : {"/cwd", "/root"}) {
            if (const auto path = try_read_link(process_ + link)) {
                note("current directory", *path, names, [](DirectoryUser&) {});
            }
        }
        look_at_descriptors(pid, names);
        look_at_mappings(names);
    }

    std::vector<DirectoryUser> take() {
        writers_.insert(writers_.end(), readers_.begin(), readers_.end());
        writers_.resize(std::min(writers_.size(), limit_));
        return std::move(writers_);
    }
    std::size_t hidden() const { return hidden_; }

private:
    // Some containers and sandboxes keep even their root from looking into process 1, which is their supervisor, not a database. Of a
    // process that has just ended, links give EACCES too.
    void count_hidden(pid_t pid, int error) {
        const bool supervisor = pid == 1 && ::geteuid() == 0;
        if ((error == EACCES || error == EPERM) && !supervisor && ::access(process_.c_str(), F_OK) == 0) {
            ++hidden_;
        }
    }

    template <typename Look>
    void note(const char* what, const std::string& path, const std::vector<Alias>& names, Look look) {
        for (const Alias& alias : names) {
            if (!at_or_below(path, alias.path)) {
                continue;
            }
            DirectoryUser user = user_;
            user.what = what;
            user.path = path;
            user.relative = join(alias.relative, rest_of(path, alias.path));
            look(user);
            auto& users = user.writable ? writers_ : readers_;
            if (users.size() < limit_) {
                if (user_.command.empty()) {
                    user_.command = process_command(user_.pid);
                }
                user.command = user_.command;
                users.push_back(std::move(user));
            }
            return;
        }
    }

    void look_at_descriptors(pid_t pid, const std::vector<Alias>& names) {
        const int error = for_each_number(process_ + "/fd", [&](int number) {
            const std::string link = process_ + "/fd/" + std::to_string(number);
            if (const auto path = try_read_link(link); path && path->starts_with('/')) {
                note("open file", *path, names, [&](DirectoryUser& user) { look_at_file(link, number, user); });
            }
        });
        if (error != 0) {
            count_hidden(pid, error);
        }
    }

    // A deleted file isn't in the directory any more, whoever writes to it.
    void look_at_file(const std::string& link, int number, DirectoryUser& user) const {
        const unsigned flags = flags_of(number);
        if ((flags & O_ACCMODE) == O_RDONLY) {
            return;
        }
        struct stat status {};
        const bool known = ::stat(link.c_str(), &status) == 0;
        user.writable = !known || (status.st_nlink != 0 && !S_ISDIR(status.st_mode));
        user.direct = known && user.writable && (flags & O_DIRECT) != 0 ? status.st_ino : 0;
    }

    unsigned flags_of(int number) const {
        const std::string text = read_or_empty(process_ + "/fdinfo/" + std::to_string(number));
        const std::size_t at = text.find("flags:\t");
        unsigned flags = 0;
        if (at != std::string::npos) {
            std::from_chars(text.data() + at + 7, text.data() + text.size(), flags, 8);
        }
        return flags;
    }

    void look_at_mappings(const std::vector<Alias>& names) {
        const int fd = ::open((process_ + "/maps").c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return;  // looking at the descriptors has counted it
        }
        const FileDescriptor file(fd);
        std::string pending;
        std::string last;
        std::array<char, 16384> buffer;
        for (;;) {
            const ssize_t length = ::read(file.get(), buffer.data(), buffer.size());
            if (length <= 0) {
                return;
            }
            pending.append(buffer.data(), static_cast<std::size_t>(length));
            std::size_t begin = 0;
            for (std::size_t end = 0; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1) {
                look_at_mapping(std::string_view(pending).substr(begin, end - begin), last, names);
            }
            pending.erase(0, begin);
        }
    }

    // 7f0000000000-7f0000001000 rw-s 00000000 08:01 1234    /path
    void look_at_mapping(std::string_view line, std::string& last, const std::vector<Alias>& names) {
        const std::size_t permissions = line.find(' ') + 1;
        const std::size_t slash = line.find('/');
        if (slash == std::string_view::npos || permissions == 0 || permissions + 4 > line.size()) {
            return;
        }
        const bool writable = line[permissions + 1] == 'w' && line[permissions + 3] == 's';
        std::string path(line.substr(slash));
        std::string key = path + (writable ? "w" : "r");
        if (key == last) {
            return;  // a file has many mappings, one after another
        }
        last = std::move(key);
        const bool deleted = path.ends_with(" (deleted)");
        note("mapped file", path, names, [&](DirectoryUser& user) { user.writable = writable && !deleted; });
    }

    Aliases aliases_;
    std::size_t limit_;
    std::size_t hidden_ = 0;
    std::string process_;
    DirectoryUser user_;
    std::vector<DirectoryUser> writers_;
    std::vector<DirectoryUser> readers_;
};

// State, parent and start time: fields 3, 4 and 22 of /proc/PID/stat. Field 2, the command, may hold anything, also spaces and ')'.
struct ProcessStat {
    char state = '?';
    pid_t parent = 0;
    std::uint64_t start = 0;
};

std::optional<ProcessStat> process_stat(pid_t pid) {
    const std::string text = read_or_empty("/proc/" + std::to_string(pid) + "/stat");
    std::size_t at = text.rfind(") ");
    if (at == std::string::npos || at + 4 >= text.size()) {
        return std::nullopt;
    }
    at += 2;
    ProcessStat stat{text[at], 0, 0};
    std::from_chars(text.data() + at + 2, text.data() + text.size(), stat.parent);
    for (int field = 3; field < 22; ++field) {
        at = text.find(' ', at);
        if (at == std::string::npos) {
            return std::nullopt;
        }
        ++at;
    }
    std::from_chars(text.data() + at, text.data() + text.size(), stat.start);
    return stat;
}

}  // namespace

std::vector<DirectoryUser> users_of_directory(const std::string& directory, std::size_t limit, std::size_t* hidden,
                                              const std::function<bool(pid_t)>& left_out) {
    Search search(directory, limit);
    const pid_t own = ::getpid();
    const int error = for_each_number("/proc", [&](pid_t pid) {
        if (pid != own && (!left_out || !left_out(pid))) {
            search.look_at(pid);
        }
    });
    if (error != 0) {
        throw Error::system("read directory", "/proc", error);
    }
    if (hidden != nullptr) {
        // With hidepid the others aren't even listed.
        *hidden = search.hidden() + (::geteuid() != 0 && ::access("/proc/1", F_OK) != 0 ? 1 : 0);
    }
    return search.take();
}

std::optional<std::vector<std::uint64_t>> written_directly(const std::string& directory) {
    constexpr std::size_t kLooked = 65'536;
    std::size_t hidden = 0;
    const auto users = users_of_directory(directory, kLooked, &hidden);
    if (hidden != 0 || users.size() == kLooked) {
        return std::nullopt;
    }
    std::vector<std::uint64_t> inodes;
    for (const DirectoryUser& user : users) {
        if (user.direct != 0) {
            inodes.push_back(user.direct);
        }
    }
    std::sort(inodes.begin(), inodes.end());
    inodes.erase(std::unique(inodes.begin(), inodes.end()), inodes.end());
    return inodes;
}

std::optional<std::uint64_t> process_start(pid_t pid) {
    const auto stat = process_stat(pid);
    return stat ? std::optional(stat->start) : std::nullopt;
}

std::optional<pid_t> process_parent(pid_t pid) {
    const auto stat = process_stat(pid);
    return stat ? std::optional(stat->parent) : std::nullopt;
}

std::string process_command(pid_t pid) {
    const std::string command = read_or_empty("/proc/" + std::to_string(pid) + "/comm");
    return command.substr(0, command.find('\n'));
}

bool process_alive(pid_t pid, std::uint64_t start) {
    const auto stat = process_stat(pid);
    return stat && stat->start == start && stat->state != 'Z' && stat->state != 'X';
}

}  // namespace nodesnap
