// The part of place.h that changes something.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/xattr.h"
#include "snapshot/restore/attributes.h"
#include "snapshot/restore/identity.h"
#include "snapshot/restore/place.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr const char* kContent = "content";
constexpr const char* kLostAndFound = "lost+found";
constexpr std::size_t kMovesAtOnce = 1000;

// Up to `limit` names in a directory, without those that `except` knows: collected first, since they are about to go.
template <typename Except>
std::vector<std::string> some_names(int directory, const std::string& path, std::size_t limit, Except except) {
    DirectoryStream stream(open_at(directory, ".", kDirectory), path);
    std::vector<std::string> names;
    DirectoryEntry entry;
    while (names.size() < limit && stream.next(entry)) {
        if (!except(entry.name)) {
            names.push_back(entry.name);
        }
    }
    return names;
}

FileDescriptor make_staging(const std::string& path) {
    const int error = entry::make_directory(AT_FDCWD, path, 0700);
    if (error != 0 && error != EEXIST) {
        throw Error::system("make the directory", path, error);
    }
    auto directory = open_path(path, kDirectory);
    if (const int busy = entry::lock_exclusive(directory.get()); busy != 0) {
        throw busy == EWOULDBLOCK ? Error::refused("another restore is at work in " + path, "wait for it to end")
                                  : Error::system("lock", path, busy);
    }
    return directory;
}

// Now that no other run can be at work there: what was found before must still be so.
void require_unchanged(int staging, const RestorePlace& place) {
    const auto named = stat_path(place.staging, AT_SYMLINK_NOFOLLOW);
    if (!named || named->stx_ino != stat_fd(staging, place.staging).stx_ino || read_state(place.state_path()) != place.left_text) {
        throw Error::refused("another restore was at work in " + place.staging + " a moment ago",
                             "see what it has done, then run this again");
    }
}

// What a directory has inherited from the one above would go on to all that is made in it.
void drop_inherited(int directory, const std::string& path) {
    xattr::remove(directory, "system.posix_acl_default", path);
    xattr::remove(directory, "system.posix_acl_access", path);
    xattr::remove(directory, "btrfs.compression", path);
}

void clone_snapshot(int staging, const RestorePlace& place) {
    btrfs::create_snapshot(place.snapshot.root.get(), staging, kContent, false);
    if (!place.snapshot.proved()) {
        throw Error::failed("the snapshot of backup " + place.snapshot.backup->id.hex() + " was changed while it was cloned",
                            "run the restore again: it does without it");
    }
}

void make_content(int staging, const RestorePlace& place) {
    if (stat_at(staging, kContent)) {
        if (!place.discards_content) {
            return;
        }
        remove_whole(staging, kContent, place.content_path());
    }
    drop_inherited(staging, place.staging);
    if (place.snapshot) {
        clone_snapshot(staging, place);
        return;
    }
    if (place.subvolume) {
        btrfs::create_subvolume(staging, kContent);
        return;
    }
    if (const int error = entry::make_directory(staging, kContent, 0700); error != 0) {
        throw Error::system("make the directory", place.content_path(), error);
    }
}

Error in_the_way(const std::string& path, const std::string& entry) {
    return Error::failed(path + " holds " + entry + " already", "move it away and run the restore again");
}

// Two directories of one name, as a file system's own lost+found: what is in the one goes into the other.
void merge_directory(int from_parent, int to_parent, const std::string& name, const std::string& path) {
    {
        const auto from = open_at(from_parent, name, kDirectory);
        const auto to = open_at(to_parent, name, kDirectory);
        for (const auto& entry : some_names(from.get(), path, ~std::size_t{0}, [](const std::string&) { return false; })) {
            if (!rename_no_replace(from.get(), entry, to.get(), entry)) {
                throw in_the_way(path, entry);
            }
        }
    }
    if (const int error = entry::remove_directory(from_parent, name); error != 0) {
        throw Error::system("remove", name, error);
    }
}

void move_entry(int from, int to, const std::string& name, const RestorePlace& place) {
    if (rename_no_replace(from, name, to, name)) {
        return;
    }
    const auto path = place.destination + "/" + name;
    if (name != kLostAndFound) {
        throw Error::failed(path + " has appeared while the restore was running", "move it away and run the restore again");
    }
    merge_directory(from, to, name, path);
}

// Names that have moved from one directory to the other are durable in both, one without the other being of no use. fsync() alone is a
// matter of one directory; on btrfs what a log tells of it may leave out the other, so the whole transaction is committed.
void sync_moves(int from, int to, const RestorePlace& place) {
    sync_directory(to, place.destination);
    sync_directory(from, place.content_path());
    sync_file_system(to, place.destination);
}

void move_entries(const RestorePlace& place, const std::vector<std::string>& gate_files, const std::function<void(int root)>& prepare) {
    const auto staging = open_path(place.staging, kDirectory);
    if (!stat_at(staging.get(), kContent)) {
        return;
    }
    const auto from = open_at(staging.get(), kContent, kDirectory);
    const auto to = open_path(place.destination, kDirectory);
    prepare(to.get());
    sync_moves(from.get(), to.get(), place);
    fault::step("restore.root-prepared");
    const auto is_gate = [&gate_files](const std::string& name) {
        return std::find(gate_files.begin(), gate_files.end(), name) != gate_files.end();
    };
    for (auto names = some_names(from.get(), place.content_path(), kMovesAtOnce, is_gate); !names.empty();
         names = some_names(from.get(), place.content_path(), kMovesAtOnce, is_gate)) {
        for (const auto& name : names) {
            move_entry(from.get(), to.get(), name, place);
        }
    }
    sync_moves(from.get(), to.get(), place);
    fault::step("restore.before-gates");
    for (const auto& name : gate_files) {
        if (stat_at(from.get(), name)) {
            move_entry(from.get(), to.get(), name, place);
        }
    }
    sync_moves(from.get(), to.get(), place);
}

void discard_empty(int directory, const std::string& name, const std::string& path) {
    {
        const auto old = open_at(directory, name, kDirectory);
        static_cast<void>(entry::remove_directory(old.get(), kLostAndFound));
    }
    if (const int error = entry::remove_directory(directory, name); error != 0) {
        throw Error::system("remove the empty directory", path, error);
    }
}

// What was there is staged now, and known there by its identity.
void exchange_content(const RestorePlace& place) {
    require_still_unused(place);
    const auto parent = open_path(place.parent, kDirectory);
    const auto staging = open_path(place.staging, kDirectory);
    const auto name = place.destination.substr(place.destination.rfind('/') + 1);
    AttributeWriter::unseal(open_at(parent.get(), name, kDirectory).get());
    rename_exchange(staging.get(), kContent, parent.get(), name);
    fault::step("restore.exchanged");
    sync_directory(parent.get(), place.parent);
    sync_directory(staging.get(), place.staging);
    sync_file_system(parent.get(), place.parent);
}

void rename_content(const RestorePlace& place) {
    const auto parent = open_path(place.parent, kDirectory);
    const auto staging = open_path(place.staging, kDirectory);
    const auto name = place.destination.substr(place.destination.rfind('/') + 1);
    if (!rename_no_replace(staging.get(), kContent, parent.get(), name)) {
        // An empty directory. Exchanged rather than removed first, so that one that isn't empty any more is put back.
        rename_exchange(staging.get(), kContent, parent.get(), name);

        const auto old = open_at(staging.get(), kContent, kDirectory);
        const auto found = some_names(old.get(), place.destination, 1, [](const std::string& entry) { return entry == kLostAndFound; });
        if (!found.empty()) {
            rename_exchange(staging.get(), kContent, parent.get(), name);
            throw Error::failed(place.destination + " isn't empty any more: it holds " + found.front(),
                                "move it away and run the restore again");
        }
    }
    sync_directory(parent.get(), place.parent);
    sync_directory(staging.get(), place.staging);
    sync_file_system(parent.get(), place.parent);
}

}  // namespace

RestoreStaging::RestoreStaging(const RestorePlace& place, RestoreState& state) : directory_(make_staging(place.staging)) {
    require_unchanged(directory_.get(), place);
    state.staging = directory_identity(place.staging);
    store_state(place.state_path(), state);
    sync_directory(place.parent);
    if (place.placed) {
        return;
    }
    make_content(directory_.get(), place);
    content_ = open_at(directory_.get(), kContent, kDirectory);
    if (!place.snapshot) {
        drop_inherited(content_.get(), place.content_path());  // and what a run before had given it already
    }
    if (place.in_place) {
        destination_ = open_path(place.destination, kDirectory);
    }
    sync_directory(directory_.get(), place.staging);
    state.content = directory_identity(place.content_path());
    store_state(place.state_path(), state);
}

void put_in_place(const RestorePlace& place, const std::vector<std::string>& gate_files, const std::function<void(int root)>& prepare) {
    if (place.placed) {
        return;
    }
    if (place.in_place) {
        require_still_unused(place);  // who has come meanwhile has seen, or changed, what was neither the one nor the other
    }
    if (place.kind == RestorePlace::Kind::kMountRoot) {
        move_entries(place, gate_files, prepare);
    } else if (place.delta) {
        exchange_content(place);
    } else {
        rename_content(place);
    }
}

std::string old_gate_name(std::size_t number) {
    return kOldGate + std::to_string(number);
}

void take_gates_away(const RestorePlace& place, const std::vector<std::string>& gate_files) {
    const auto staging = open_path(place.staging, kDirectory);
    const auto destination = open_path(place.destination, kDirectory);
    AttributeWriter::unseal(destination.get());
    for (std::size_t i = 0; i < gate_files.size(); ++i) {
        const auto status = stat_at(destination.get(), gate_files[i]);
        if (!status || S_ISDIR(status->stx_mode)) {
            continue;
        }
        const int opened = try_open_long(destination.get(), gate_files[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        const FileDescriptor gate(std::max(opened, -1));
        if (gate) {
            AttributeWriter::unseal(gate.get());
        }
        const int error = entry::rename(destination.get(), gate_files[i], staging.get(), old_gate_name(i));
        if (error != 0) {
            throw Error::system("move away", place.destination + "/" + gate_files[i], error);
        }
    }
    sync_moves(staging.get(), destination.get(), place);
    fault::step("restore.gates-away");
}

bool keep_old_all_the_same(RestorePlace& place) {
    if (!place.clones() || !place.keep_old_as.empty() || !stat_path(place.content_path())) {
        return false;
    }
    const auto name = place.destination + RestoreOptions::kOldSuffix;
    place.keep_old_as = name;
    for (int number = 2; stat_path(place.keep_old_as, AT_SYMLINK_NOFOLLOW); ++number) {
        place.keep_old_as = name + "-" + std::to_string(number);
    }
    return true;
}

void dispose_of_old(const RestorePlace& place) {
    const auto staging = open_path(place.staging, kDirectory);
    if (!place.clones() || !stat_at(staging.get(), kContent)) {
        return;
    }
    const auto parent = open_path(place.parent, kDirectory);
    if (place.keep_old_as.empty()) {
        remove_whole(staging.get(), kContent, place.content_path());
    } else if (!rename_no_replace(staging.get(), kContent, parent.get(), place.keep_old_as.substr(place.keep_old_as.rfind('/') + 1))) {
        throw in_the_way(place.parent, place.keep_old_as);
    }
    sync_directory(parent.get(), place.parent);
    sync_directory(staging.get(), place.staging);
    sync_file_system(parent.get(), place.parent);
    fault::step("restore.old-disposed");
}

void remove_staging(const RestorePlace& place) {
    {
        const auto staging = open_path(place.staging, kDirectory);
        if (stat_at(staging.get(), kContent)) {
            discard_empty(staging.get(), kContent, place.content_path());
        }
        for (const auto& name : some_names(staging.get(), place.staging, ~std::size_t{0}, [](const std::string&) { return false; })) {
            if (const int error = entry::remove(staging.get(), name); error != 0 && error != ENOENT) {
                throw Error::system("remove", place.staging + "/" + name, error);
            }
        }
    }
    remove_directory(place.staging);
    sync_directory(place.parent);
}

}  // namespace nodesnap
