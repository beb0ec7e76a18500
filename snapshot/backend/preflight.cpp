#include "snapshot/backend/preflight.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <iterator>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "snapshot/engine_lock.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

constexpr std::size_t kNamed = 5;      // in one message
constexpr std::size_t kOptions = 100;  // in one hint, each to be pasted into a shell with the others

std::string named(const std::vector<std::string>& found, const std::string& what) {
    if (found.empty()) {
        return "";
    }
    std::string text = (found.size() == 1 ? "a " + what : what + "s") + " at ";
    for (std::size_t i = 0; i < std::min(found.size(), kNamed); ++i) {
        text += (i == 0 ? "" : ", ") + found[i] + "/";
    }
    return text + (found.size() > kNamed ? " and " + std::to_string(found.size() - kNamed) + " more" : "");
}

std::vector<std::string> nested_subvolumes(const std::string& node_directory, const ExcludeRules& excludes) {
    std::vector<std::string> found;
    if (btrfs::is_btrfs(node_directory)) {
        found = btrfs::nested_subvolumes_below(node_directory);
        std::erase_if(found, [&](const std::string& nested) { return excludes.matches_tree(nested, true); });
    }
    return found;
}

std::vector<std::string> nested_mounts(const std::string& node_directory, const ExcludeRules& excludes) {
    std::vector<std::string> found;
    const std::size_t prefix = node_directory == "/" ? 1 : node_directory.size() + 1;
    for (const Mount& mount : mounts_below(node_directory)) {
        std::string relative = mount.mount_point.substr(prefix);
        // A file can be mounted on, too; a pattern that is meant for a directory shouldn't miss it.
        if (!excludes.matches_tree(relative, true)) {
            found.push_back(std::move(relative));
        }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

// All of them at once, so that one more try is enough.
std::string exclude_hint(const std::vector<std::string>& found, const std::string& node_directory) {
    const bool one = found.size() == 1;
    std::string options;
    for (std::size_t i = 0; i < std::min(found.size(), kOptions); ++i) {
        options += " " + exclude_option_of(found[i]);
    }
    std::string others;
    if (found.size() > kOptions) {
        const std::string directory = shell_word(node_directory);
        others = " (and " + std::to_string(found.size() - kOptions) + " more: `btrfs subvolume list -o " + directory +
                 "` and `findmnt --submounts " + directory + "` list them; a pattern may cover many, and --exclude-from takes a file)";
    }
    return std::string("exclude ") + (one ? "it" : "them") + " with" + options + others + ", or back " + (one ? "it" : "them") + " up as " +
           (one ? "its own node" : "nodes of their own");
}

}  // namespace

void refuse_nested(const std::string& node_directory, const ExcludeRules& excludes) {
    const std::vector<std::string> subvolumes = nested_subvolumes(node_directory, excludes);
    const std::vector<std::string> mounts = nested_mounts(node_directory, excludes);
    std::vector<std::string> found;
    std::set_union(subvolumes.begin(), subvolumes.end(), mounts.begin(), mounts.end(), std::back_inserter(found));
    if (!found.empty()) {
        throw Error::refused("the node directory " + node_directory + " holds " + named(subvolumes, "nested subvolume") +
                                 (subvolumes.empty() || mounts.empty() ? "" : ", and ") + named(mounts, "mount") +
                                 ", which a snapshot would not include",
                             exclude_hint(found, node_directory));
    }
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

std::optional<Obstacle> find_obstacle(const std::string& node_directory, const ExcludeRules& excludes, const std::string& remedy) {
    const std::string accepted = "; --accept-inconsistent backs it up as it is";
    std::size_t hidden = 0;
    const auto writers = writers_of(node_directory, excludes, &hidden);
    if (!writers.empty()) {
        return Obstacle{"the node directory " + node_directory + " is in use: " + describe_writer(writers.front()), remedy + accepted};
    }
    if (const std::string locked = engine_lock(node_directory); !locked.empty()) {
        return Obstacle{"the node directory " + node_directory + " is in use: " + locked, remedy + accepted};
    }
    if (hidden != 0) {
        return Obstacle{"cannot tell whether the node directory " + node_directory + " is in use: other users' processes are out of sight",
                        "run as root" + accepted};
    }
    return std::nullopt;
}

std::vector<DirectoryUser> writers_of(const std::string& node_directory, const ExcludeRules& excludes, std::size_t* hidden,
                                      const std::function<bool(pid_t)>& left_out) {
    constexpr std::size_t kLooked = 4096;  // more than one daemon has files open for writing that are excluded
    std::vector<DirectoryUser> users = users_of_directory(node_directory, kLooked, hidden, left_out);
    const bool there_may_be_more = users.size() == kLooked;
    std::erase_if(users, [&](const DirectoryUser& user) { return !user.writable || excludes.matches_tree(user.relative, false); });
    if (users.empty() && there_may_be_more && hidden != nullptr) {
        ++*hidden;
    }
    return users;
}

std::string describe_writer(const DirectoryUser& writer) {
    return writer.command + " (pid " + std::to_string(writer.pid) + ") has " + writer.path +
           (writer.what == "mapped file" ? " mapped" : " open") + " for writing";
}

}  // namespace nodesnap
