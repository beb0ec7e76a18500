#include "snapshot/hold/own_cgroups.h"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap::hold {
namespace {

constexpr const char* kGuard = "nodesnap-guard.";
constexpr const char* kDaemon = "nodesnap-daemon.";

std::string path_of(const char* prefix, const std::string& id) {
    return std::string("/").append(prefix).append(id);
}

std::optional<Cgroup> make_or_open(const std::string& path, std::string* why) noexcept {
    try {
        auto cgroup = Cgroup::open(path);
        if (!cgroup) {
            cgroup = Cgroup::make(path);
        }
        cgroup->try_lock(false);  // who is forked has it, too, until it has entered and executes its program: it isn't swept away before
        return cgroup;
    } catch (const Error& error) {
        if (why != nullptr) {
            *why = error.message();
        }
        return std::nullopt;
    }
}

bool try_remove(const std::string& path) noexcept {
    try {
        return Cgroup::remove(path) || !Cgroup::open(path);
    } catch (const Error&) {
        return false;
    }
}

// If nobody is just about to enter it.
void sweep(const std::string& path) {
    auto cgroup = Cgroup::open(path);
    if (cgroup && cgroup->try_lock(true)) {
        Cgroup::remove(path);
    }
}

}  // namespace

std::optional<Cgroup> make_guard_cgroup(const std::string& id, std::string* why) noexcept {
    return make_or_open(path_of(kGuard, id), why);
}

std::optional<Cgroup> make_daemon_cgroup(const std::string& id) noexcept {
    return make_or_open(path_of(kDaemon, id), nullptr);
}

bool remove_own_cgroups(const std::string& id) noexcept {
    try_remove(path_of(kDaemon, id));
    return try_remove(path_of(kGuard, id));
}

void leave_own_cgroup() noexcept {
    try {
        if (auto top = Cgroup::open("/")) {
            top->move_here(::getpid());
        }
    } catch (const Error&) {
        // Then whoever comes next removes the cgroup.
    }
}

void sweep_own_cgroups(const std::function<bool(const std::string& id)>& in_use) noexcept {
    try {
        const auto top = Cgroup::mount_point();
        if (!top) {
            return;
        }
        std::vector<std::string> names;
        DirectoryStream stream(open_path(*top, O_RDONLY | O_DIRECTORY), *top);
        for (DirectoryEntry entry; stream.next(entry);) {
            names.push_back(entry.name);
        }
        for (const std::string& name : names) {
            for (const std::string prefix : {kGuard, kDaemon}) {
                if (name.starts_with(prefix) && !in_use(name.substr(prefix.size()))) {
                    sweep("/" + name);
                }
            }
        }
    } catch (const Error&) {
        // They are empty, and cost next to nothing.
    }
}

}  // namespace nodesnap::hold
