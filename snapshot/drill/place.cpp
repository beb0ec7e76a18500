#include "snapshot/drill/place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>
#include <vector>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/processes.h"
#include "platform/random.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr const char* kPrefix = ".nodesnap-drill-";
constexpr const char* kKeptPrefix = "nodesnap-drill-";
constexpr mode_t kMode = 0711;  // the daemon may be another user's: it gets through, and sees nothing else

std::string random_digits() {
    char text[17] = {};
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(random_u64()));
    return text;
}

bool leads_to(int directory, const std::string& name, int fd) {
    const auto named = stat_at(directory, name);
    const auto opened = stat_fd(fd, name);
    return named && named->stx_ino == opened.stx_ino && device_of(*named) == device_of(opened);
}

std::vector<std::string> directories_in(int parent, const std::string& name, const std::string& path) {
    DirectoryStream stream(open_at(parent, name, kDirectory), path);
    std::vector<std::string> names;
    DirectoryEntry entry;
    while (stream.next(entry)) {
        if (const auto status = stat_at(stream.fd(), entry.name); status && S_ISDIR(status->stx_mode)) {
            names.push_back(entry.name);
        }
    }
    return names;
}

// A subvolume is what was restored, or, in the directory beside it, what a restore that was cut off had staged.
void remove_place(int scratch, const std::string& name, const std::string& path) {
    {
        const auto place = open_at(scratch, name, kDirectory);
        for (const std::string& entry : directories_in(scratch, name, path)) {
            const auto directory = open_at(place.get(), entry, kDirectory);
            if (!btrfs::is_subvolume(directory.get())) {
                for (const std::string& staged : directories_in(place.get(), entry, path)) {
                    if (btrfs::is_subvolume(open_at(directory.get(), staged, kDirectory).get())) {
                        remove_whole(directory.get(), staged, path);
                    }
                }
            }
            remove_whole(place.get(), entry, path);
        }
    }
    remove_tree(scratch, name, path);
}

// Nobody's any more, and nobody uses it.
void remove_if_left(int scratch, const std::string& name, const std::string& path) {
    const int opened = try_open_long(scratch, name, kDirectory);
    if (opened < 0) {
        return;
    }
    const FileDescriptor place(opened);
    if (stat_fd(place.get(), path).stx_uid != ::geteuid() || entry::lock_exclusive(place.get()) != 0) {
        return;
    }
    if (const auto users = users_of_directory(path, 1); !users.empty()) {
        throw Error::failed(path + " is in use by " + users.front().command + " (pid " + std::to_string(users.front().pid) + ")",
                            "it is what a drill that was killed has left; end that process");
    }
    remove_place(scratch, name, path);
}

}  // namespace

DrillPlace::DrillPlace(std::string scratch_directory, Report& report)
    : scratch_directory_(resolve_path(scratch_directory)),
      report_(report),
      scratch_(open_path(scratch_directory_, O_RDONLY | O_DIRECTORY)) {
    for (const std::string& name : directories_in(scratch_.get(), ".", scratch_directory_)) {
        if (!name.starts_with(kPrefix)) {
            continue;
        }
        try {
            remove_if_left(scratch_.get(), name, scratch_directory_ + "/" + name);
        } catch (const Error& error) {
            report_.warn("what an earlier drill left could not be removed: " + error.message());
        }
    }
    while (!make()) {
    }
    fault::step("drill.begun");
}

// False if another drill took it for one that was left, in the instant before it was locked.
bool DrillPlace::make() {
    name_ = kPrefix + random_digits();
    if (const int error = entry::make_directory(scratch_.get(), name_, kMode); error != 0) {
        throw Error::system("make the directory", path(), error);
    }
    const int opened = try_open_long(scratch_.get(), name_, kDirectory);
    if (opened < 0) {
        return false;
    }
    lock_ = FileDescriptor(opened);
    if (entry::lock_exclusive(lock_.get()) != 0 || !leads_to(scratch_.get(), name_, lock_.get())) {
        return false;
    }
    if (const int error = entry::set_mode(lock_.get(), kMode); error != 0) {  // whatever the umask says
        throw Error::system("set the mode of", path(), error);
    }
    return true;
}

std::string DrillPlace::keep() {
    const std::string name = kKeptPrefix + name_.substr(std::string(kPrefix).size());
    if (!rename_no_replace(scratch_.get(), name_, scratch_.get(), name)) {
        throw Error::failed(scratch_directory_ + "/" + name + " exists already");
    }
    name_ = name;
    kept_ = true;
    return destination();
}

DrillPlace::~DrillPlace() {
    if (kept_) {
        return;
    }
    try {
        remove_place(scratch_.get(), name_, path());
    } catch (const std::exception& error) {
        try {
            report_.warn(path() + " is left, for the next drill there to remove: " + error.what());
        } catch (...) {  // out of memory
        }
    }
}

}  // namespace nodesnap
