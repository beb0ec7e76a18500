#include "platform/mount_namespaces.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdint>
#include <memory>
#include <set>

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

}  // namespace

std::vector<SeenMount> mounts_in_all_namespaces(const Mount& like) {
    std::vector<SeenMount> found;
    std::set<std::string> looked_at;  // namespaces; a process that has another root sees other mounts of its own
    std::set<std::uint64_t> known;    // mounts
    const auto look_at = [&](pid_t pid) {
        const std::string process = "/proc/" + (pid == 0 ? std::string("self") : std::to_string(pid));
        if (!looked_at.insert(link_of(process + "/ns/mnt") + " " + link_of(process + "/root")).second) {
            return;
        }
        const std::vector<Mount> mounts = mounts_seen_by(process);
        for (const Mount& mount : mounts) {
            if (mount.device != like.device || mount.type != like.type || !known.insert(mount.id).second) {
                continue;
            }
            SeenMount seen{mount, {}, pid, pid == 0 ? "" : process_command(pid)};
            const auto parent = std::find_if(mounts.begin(), mounts.end(), [&](const Mount& other) { return other.id == mount.parent_id; });
            if (parent != mounts.end()) {
                seen.parent = *parent;
            }
            found.push_back(std::move(seen));
        }
    };
    look_at(0);
    for (const pid_t pid : processes()) {
        look_at(pid);
    }
    return found;
}

}  // namespace nodesnap
