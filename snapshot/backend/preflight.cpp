#include "snapshot/backend/preflight.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap {
namespace {

constexpr std::size_t kNamed = 5;  // in one message; the operator meets the others on the next try

void refuse_found(const std::vector<std::string>& found, const char* what, const std::string& node_directory) {
    if (found.empty()) {
        return;
    }
    std::string names;
    std::string options;
    for (std::size_t i = 0; i < std::min(found.size(), kNamed); ++i) {
        names += (i == 0 ? "" : ", ") + found[i] + "/";
        options += " " + exclude_option_of(found[i]);
    }
    if (found.size() > kNamed) {
        names += " and " + std::to_string(found.size() - kNamed) + " more";
    }
    const bool one = found.size() == 1;
    throw Error::refused("the node directory " + node_directory + " holds " + (one ? "a " : "") + what + (one ? "" : "s") + " at " + names +
                             ", which a snapshot would not include",
                         std::string("exclude ") + (one ? "it" : "them") + " with" + options + ", or back " + (one ? "it" : "them") +
                             " up as " + (one ? "its own node" : "nodes of their own"));
}

}  // namespace

void refuse_nested(const std::string& node_directory, const ExcludeRules& excludes) {
    std::vector<std::string> found;
    if (btrfs::is_btrfs(node_directory)) {
        for (std::string& nested : btrfs::nested_subvolumes_below(node_directory)) {
            if (!excludes.matches_tree(nested, true)) {
                found.push_back(std::move(nested));
            }
        }
    }
    refuse_found(found, "nested subvolume", node_directory);
    found.clear();
    const std::size_t prefix = node_directory == "/" ? 1 : node_directory.size() + 1;
    for (const Mount& mount : mounts_below(node_directory)) {
        std::string relative = mount.mount_point.substr(prefix);
        // A file can be mounted on, too; a pattern that is meant for a directory shouldn't miss it.
        if (!excludes.matches_tree(relative, true)) {
            found.push_back(std::move(relative));
        }
    }
    found.erase(std::unique(found.begin(), found.end()), found.end());
    refuse_found(found, "mount", node_directory);
}

void refuse_nothing_left(const std::string& node_directory, const ExcludeRules& excludes) {
    if (excludes.empty()) {
        return;
    }
    DirectoryStream stream(open_path(node_directory, O_RDONLY | O_DIRECTORY), node_directory);
    DirectoryEntry entry;
    bool any = false;
    while (stream.next(entry)) {
        const bool directory = entry.d_type == DT_DIR;
        if (entry.name == "lost+found" && directory) {
            continue;
        }
        if (!excludes.matches(entry.name, directory)) {
            return;
        }
        any = true;
    }
    if (any) {
        throw Error::refused("the exclude patterns leave nothing of the node directory " + node_directory,
                             "a backup would be good, and hold nothing; look at --exclude, --exclude-from and the configuration file");
    }
}

std::vector<DirectoryUser> writers_of(const std::string& node_directory, const ExcludeRules& excludes, std::size_t* hidden) {
    constexpr std::size_t kLooked = 4096;  // more than one daemon has files open for writing that are excluded
    std::vector<DirectoryUser> users = users_of_directory(node_directory, kLooked, hidden);
    std::erase_if(users, [&](const DirectoryUser& user) { return !user.writable || excludes.matches_tree(user.relative, false); });
    return users;
}

}  // namespace nodesnap
