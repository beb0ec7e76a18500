#include "platform/mount_namespaces.h"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <unordered_map>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/processes.h"

namespace nodesnap {
namespace {

constexpr std::size_t kMountinfoLimit = 64u << 20;

std::string link_of(const std::string& path) {
    std::array<char, PATH_MAX> target;
    const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
    return length < 0 ? "" : std::string(target.data(), static_cast<std::size_t>(length));
}

std::vector<pid_t> processes() {
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir("/proc"), &::closedir);
    if (!stream) {
        throw Error::system("read directory", "/proc", errno);
    }
    std::vector<pid_t> found;
    while (const dirent* entry = ::readdir(stream.get())) {
        const std::string_view name = entry->d_name;
        pid_t pid = 0;
        if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr == name.data() + name.size()) {
            found.push_back(pid);
        }
    }
    return found;
}

// A process that has ended meanwhile has none.
std::vector<Mount> mounts_seen_by(const std::string& process) {
    try {
        return parse_mountinfo(read_small_file(process + "/mountinfo", kMountinfoLimit).value_or(""));
    } catch (const Error&) {
        return {};
    }
}

using Fits = std::function<bool(const Mount& mount, const Mount& parent)>;

std::vector<SeenMount> gather(const Fits& fits) {
    std::vector<SeenMount> found;
    std::set<std::string> looked_at;  // namespaces; a process that has another root sees other mounts of its own
    std::set<std::uint64_t> known;    // mounts
    const Mount no_parent;
    const auto look_at = [&](pid_t pid) {
        const std::string process = "/proc/" + (pid == 0 ? std::string("self") : std::to_string(pid));
        if (!looked_at.insert(link_of(process + "/ns/mnt") + " " + link_of(process + "/root")).second) {
            return;
        }
        const std::vector<Mount> mounts = mounts_seen_by(process);
        std::unordered_map<std::uint64_t, const Mount*> by_id;
        for (const Mount& mount : mounts) {
            by_id.emplace(mount.id, &mount);
        }
        for (const Mount& mount : mounts) {
            const auto above = by_id.find(mount.parent_id);
            const Mount& parent = above != by_id.end() ? *above->second : no_parent;
            if (fits(mount, parent) && known.insert(mount.id).second) {
                found.push_back({mount, parent, pid, pid == 0 ? "" : process_command(pid)});
            }
        }
    };
    look_at(0);
    for (const pid_t pid : processes()) {
        look_at(pid);
    }
    return found;
}

bool is_of(const Mount& mount, const Mount& like) {
    return mount.device == like.device && mount.type == like.type;
}

}  // namespace

std::vector<SeenMount> mounts_in_all_namespaces(const Mount& like) {
    return gather([&](const Mount& mount, const Mount&) { return is_of(mount, like); });
}

std::vector<SeenMount> mounts_upon_in_all_namespaces(const Mount& like) {
    return gather([&](const Mount&, const Mount& parent) { return is_of(parent, like); });
}

}  // namespace nodesnap
