#include "snapshot/restore/place.h"

#include <algorithm>
#include <cerrno>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/mount.h"
#include "platform/processes.h"
#include "snapshot/engine_lock.h"
#include "snapshot/restore/identity.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY;
constexpr const char* kLostAndFound = "lost+found";
constexpr const char* kInsideName = ".nodesnap-restore";
constexpr std::size_t kNameLimit = 255;
constexpr const char* kTemporary = ".nodesnap-";  // a state that was being written

bool is_directory(const FileStatus& status) {
    return S_ISDIR(status.stx_mode);
}

std::string without_slashes_at_end(std::string path) {
    while (path.size() > 1 && path.back() == '/') {
        path.pop_back();
    }
    return path;
}

std::string beside_name(const std::string& name) {
    auto full = "." + name + ".nodesnap-restore";
    if (full.size() <= kNameLimit) {
        return full;
    }
    return "." + Hasher(0)(std::as_bytes(std::span(name))).hex() + ".nodesnap-restore";
}

void locate(RestorePlace& place, const std::string& destination) {
    const auto path = without_slashes_at_end(destination);
    if (path.empty()) {
        throw Error::usage("the destination is empty");
    }
    const auto status = stat_path(path);
    place.exists = status.has_value();
    if (place.exists) {
        if (!is_directory(*status)) {
            throw Error::refused(path + " isn't a directory", "give a destination that is empty or isn't there");
        }
        place.destination = resolve_path(path);
    } else {
        const auto slash = path.rfind('/');
        const auto parent = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
        const auto name = path.substr(slash == std::string::npos ? 0 : slash + 1);
        const auto parent_status = stat_path(parent);
        if (!parent_status || !is_directory(*parent_status)) {
            throw Error::refused("there is no directory " + parent + " to restore into", "make it first");
        }
        if (name == "." || name == "..") {
            throw Error::usage("the destination has no name: " + path);
        }
        if (stat_path(path, AT_SYMLINK_NOFOLLOW)) {
            throw Error::refused(path + " is a symlink to nowhere", "give a destination that is empty or isn't there");
        }
        const auto resolved = resolve_path(parent);
        place.destination = (resolved == "/" ? "" : resolved) + "/" + name;
    }
    if (place.in_place || (place.exists && is_mount_root(place.destination))) {
        place.kind = RestorePlace::Kind::kMountRoot;
        place.parent = place.destination;
        place.staging = (place.destination == "/" ? "" : place.destination) + "/" + kInsideName;
        return;
    }
    const auto slash = place.destination.rfind('/');
    place.parent = slash == 0 ? "/" : place.destination.substr(0, slash);
    place.staging = (slash == 0 ? "" : place.parent) + "/" + beside_name(place.destination.substr(slash + 1));
}

// The first entry that isn't allowed; empty if there is none.
template <typename Allowed>
std::string first_entry(const std::string& directory, Allowed allowed) {
    DirectoryStream stream(open_path(directory, kDirectory), directory);
    DirectoryEntry entry;
    while (stream.next(entry)) {
        if (!allowed(entry.name)) {
            return entry.name;
        }
    }
    return {};
}

bool is_empty(const std::string& directory) {
    return first_entry(directory, [](const std::string& name) { return name == kLostAndFound; }).empty();
}

void read_left(RestorePlace& place, const RestoreState& wanted) {
    const auto status = stat_path(place.staging, AT_SYMLINK_NOFOLLOW);
    if (!status) {
        return;
    }
    if (!is_directory(*status)) {
        throw Error::refused(place.staging + " is in the way", "remove it");
    }
    const auto remedy = how_to_discard(place.staging) + ", and restore again";
    place.left_text = read_state(place.state_path());
    place.left = load_state(place.state_path(), place.staging);
    if (!place.left) {
        if (!first_entry(place.staging, [](const std::string& name) { return name.starts_with(kTemporary); }).empty()) {
            throw Error::refused(place.staging + " holds something that isn't an interrupted restore", remedy);
        }
        return;
    }
    if (!place.left->same_restore(wanted)) {
        throw Error::refused(place.staging + " holds an interrupted restore of backup " + place.left->backup +
                                 " that was begun with another backup or other options",
                             "restore that backup with the same options to go on with it, or " + remedy);
    }
    if (place.left->staging != directory_identity(place.staging)) {
        throw Error::refused(place.state_path() + " tells of an interrupted restore in another directory: it was copied", remedy);
    }
}

// Forgets what was recorded of content that isn't there any more.
void begin_anew(RestorePlace& place, const RestoreState& wanted) {
    const auto run = place.left->run;
    place.left = wanted;
    place.left->run = run;
}

bool is_empty_but_for_us(const RestorePlace& place) {
    return !place.exists ||
           first_entry(place.destination, [](const std::string& name) { return name == kLostAndFound || name == kInsideName; }).empty();
}

// A clone of a snapshot that was not finished is made again, since it costs nothing.
bool begins_with_snapshot(const RestoreState& left) {
    return left.basis == RestoreState::kSnapshot && left.phase == RestoreState::Phase::kWriting;
}

// Sets place.placed, and proves that what the state tells of is what lies there.
void match_content(RestorePlace& place, const RestoreState& wanted) {
    if (!place.left) {
        return;
    }
    const auto& left = *place.left;
    const bool beside = place.kind == RestorePlace::Kind::kBeside;
    const auto staged = identity_if_there(place.content_path());
    const bool there = !staged.empty();
    if (!left.content.empty() && there && staged == left.content) {
        // Of the root of a mount nothing is left in it once all was moved.
        place.placed = !beside && left.phase == RestoreState::Phase::kPlaced;
        return;
    }
    if (beside && left.phase != RestoreState::Phase::kWriting && place.exists && identity_if_there(place.destination) == left.content) {
        place.placed = true;
        return;
    }
    if (!beside && left.phase == RestoreState::Phase::kPlaced && !there) {
        place.placed = true;
        return;
    }
    const bool just_made = left.content.empty() && there && (begins_with_snapshot(left) || is_empty(place.content_path()));
    if (!just_made && (there || (left.phase != RestoreState::Phase::kWriting && !is_empty_but_for_us(place)))) {
        throw Error::refused(
            (there ? place.content_path() : place.destination) + " isn't what the interrupted restore had made there: it was replaced",
            how_to_discard(place.staging) + ", and restore again");
    }
    begin_anew(place, wanted);
}

void require_empty(const RestorePlace& place, const Repository& repository, const Manifest& backup) {
    const bool inside = place.kind == RestorePlace::Kind::kMountRoot;
    if (!inside) {
        refuse_unfinished(place.destination);  // it isn't merely in the way
    }
    const bool moving = inside && place.left && place.left->phase == RestoreState::Phase::kPlacing;
    const auto found = first_entry(place.destination, [&](const std::string& name) {
        return name == kLostAndFound || (inside && name == kInsideName) ||
               (moving && tree_find(repository.nodes(), backup.tree, key::dirent(backup.root_ino, name)));
    });
    if (!found.empty()) {
        throw Error::refused(
            place.destination + " isn't empty: it holds " + found,
            "give a destination that is empty or isn't there, or move what is there away first; --delta makes it the backup by "
            "writing only what differs");
    }
}

}  // namespace

void refuse_used(const std::string& directory) {
    const auto users = users_of_directory(directory, 1);
    if (!users.empty()) {
        const auto& user = users.front();
        const bool stands_there = user.what == "current directory";  // often the shell that this was typed into
        throw Error::refused(directory + " is in use: process " + std::to_string(user.pid) + " (" + user.command + ") has it as its " +
                                 user.what + (user.relative.empty() ? "" : " " + user.relative),
                             stands_there
                                 ? "let it go elsewhere (a shell: cd), or stop it, then restore; --allow-in-use restores all the same"
                                 : "stop it, then restore; --allow-in-use restores all the same");
    }
    if (const std::string locked = engine_lock(directory); !locked.empty()) {
        throw Error::refused(directory + " is in use: " + locked, "stop the daemon, then restore; --allow-in-use restores all the same");
    }
}

bool holds_nothing(const std::string& directory) {
    return is_empty(directory);
}

namespace {

// Who uses it, if that is allowed: told instead of refused.
std::string require_unused(const std::string& directory, bool allowed) try {
    refuse_used(directory);
    return "";
} catch (const Error& error) {
    if (!allowed || error.status() != ExitStatus::kRefused) {
        throw;
    }
    return error.message();
}

// Not for what isn't there: that is restored in full, beside.
bool holds_something(const std::string& destination) {
    const auto status = stat_path(destination);
    return status && is_directory(*status) && !is_empty(destination);
}

void require_beside(const RestorePlace& place) {
    if (place.kind == RestorePlace::Kind::kMountRoot) {
        throw Error::refused(place.destination + " is the root of a mount: no clone of it can take its place",
                             "--in-place writes what differs into the directory itself");
    }
}

// Whether files can share data there.
bool can_clone(const std::string& directory) {
    const auto place = open_path(directory, kDirectory);
    const auto unnamed = [&place] { return FileDescriptor(std::max(try_open_long(place.get(), ".", O_TMPFILE | O_RDWR, 0600), -1)); };
    const auto from = unnamed();
    const auto to = unnamed();
    return from && to && entry::clone_file(from.get(), to.get()) == 0;
}

// What is to make room, or to be changed: nothing of it may be lost that the operator doesn't mean.
void inspect_old(RestorePlace& place) {
    const auto mounts = mounts_below(place.destination);
    if (!mounts.empty()) {
        throw Error::refused(place.destination + " holds a mount point: " + mounts.front().mount_point, "unmount it, then restore");
    }
    if (btrfs::is_btrfs(place.destination)) {
        const auto nested = btrfs::nested_subvolumes_below(place.destination);
        if (!nested.empty()) {
            throw Error::refused(place.destination + " holds a subvolume, which isn't in the backup: " + nested.front(),
                                 "move it away, then restore");
        }
    }
    place.old = directory_identity(place.destination);
    if (place.in_place) {
        return;
    }
    if (!can_clone(place.parent)) {
        throw Error::refused(place.parent + " is on a file system that can't clone files (" + file_system_of(place.parent).type + ")",
                             "--in-place writes what differs into the directory itself");
    }
    if (!place.keep_old_as.empty() && stat_path(place.keep_old_as, AT_SYMLINK_NOFOLLOW)) {
        throw Error::refused(place.keep_old_as + " is there already, where --keep-old would put what is replaced",
                             "move it away or remove it");
    }
}

void require_writable(const std::string& directory) {
    if (file_system_of(directory).read_only || mount_of(directory).read_only) {
        throw Error::refused(directory + " is on a read-only file system", "mount it for writing, or give another destination");
    }
    if (!entry::may_write(directory)) {
        throw Error::refused("nothing can be made in " + directory, "restore as a user who may write there");
    }
}

}  // namespace

std::string RestorePlace::placed_as() const {
    return in_place ? "in place" : kind == Kind::kMountRoot ? "into the mount" : subvolume ? "subvolume" : "directory";
}

RestorePlace inspect_place(const Repository& repository, const Manifest& backup, const RestoreOptions& options,
                           const RestoreState& wanted) {
    RestorePlace place;
    place.in_place = options.delta && options.in_place && holds_something(options.destination);
    locate(place, options.destination);
    place.delta = options.delta && place.exists && (place.in_place || !is_empty(place.destination));
    if (place.delta && !place.in_place) {
        require_beside(place);
    }
    place.allow_in_use = options.allow_in_use;
    read_left(place, wanted);
    place.discards_content = place.left && begins_with_snapshot(*place.left);
    match_content(place, wanted);
    if (place.clones() && options.keep_old) {
        place.keep_old_as = place.destination + RestoreOptions::kOldSuffix;
    }
    if (place.delta && !place.placed) {
        inspect_old(place);
    }
    if (place.exists && !place.placed) {
        if (!place.delta) {
            require_empty(place, repository, backup);
        }
        place.used = require_unused(place.destination, options.allow_in_use);
    }
    require_writable(place.parent);
    const auto content = stat_path(place.content_path(), AT_SYMLINK_NOFOLLOW);
    if (place.clones()) {
        place.subvolume = btrfs::is_subvolume(open_path(place.destination, kDirectory).get());
    } else if (place.kind == RestorePlace::Kind::kBeside) {
        const auto& shown = place.placed ? place.destination : content ? place.content_path() : place.parent;
        place.subvolume = shown == place.parent ? btrfs::is_btrfs(shown) : btrfs::is_subvolume(open_path(shown, kDirectory).get());
    }
    return place;
}

void refuse_unfinished(const std::string& directory) {
    if (stat_path(directory + "/" + kInsideName + "/state")) {
        throw Error::refused(directory + " holds an unfinished restore",
                             "finish it with the same command, or " + how_to_discard(directory + "/" + kInsideName));
    }
}

void require_still_unused(const RestorePlace& place) {
    if (identity_if_there(place.destination) != place.old) {
        throw Error::failed(place.destination + " isn't the directory any more that it was when the restore began",
                            "remove " + place.staging + " and restore again");
    }
    require_unused(place.destination, place.allow_in_use);
}

}  // namespace nodesnap
