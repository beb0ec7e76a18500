#include "snapshot/backend/lvm_rollback_record.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/backend/rollback_mounts.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {
namespace {

constexpr const char* kRecords = "/var/lib/nodesnap/rollback";
constexpr const char* kFile = "record.json";
constexpr const char* kKind = "rollback";
constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

std::string path_of(const std::string& node_directory) {
    return std::string(kRecords) + "/" + SnapshotNaming(node_directory, NameStyle::kVolume).rollback_directory().substr(1);
}

// Of a rollback that merges nothing, and of earlier versions, they aren't there.
template <typename Note>
auto texts_of_merge(Note& note) {
    return std::array{std::pair("merged", &note.merged), std::pair("written", &note.written)};
}
template <typename Note>
auto numbers_of_merge(Note& note) {
    return std::array{std::pair("merged_bytes", &note.merged_bytes), std::pair("merged_chunk_bytes", &note.merged_chunk_bytes),
                      std::pair("merged_at_s", &note.merged_at_s)};
}

template <typename Note>
auto members_of(Note& note) {
    return std::array{std::pair("node_directory", &note.node_directory),
                      std::pair("group", &note.group),
                      std::pair("group_name", &note.group_name),
                      std::pair("replaced", &note.replaced),
                      std::pair("made", &note.made),
                      std::pair("name", &note.name),
                      std::pair("kept", &note.kept),
                      std::pair("work", &note.work),
                      std::pair("snapshot_name", &note.snapshot_name),
                      std::pair("kept_name", &note.kept_name),
                      std::pair("mount_point", &note.mount.mount_point),
                      std::pair("file_system", &note.mount.type),
                      std::pair("mount_options", &note.mount.options),
                      std::pair("file_system_options", &note.mount.super_options)};
}

// The directory is what the rollback is of, or lies where its volume is mounted.
bool is_about(const LvmRollbackNote& note, const std::string& directory) {
    return directory == note.node_directory || at_or_below(directory, note.mount.mount_point);
}

std::string resolved(const std::string& directory) {
    std::error_code ignored;
    return std::filesystem::weakly_canonical(directory, ignored).string();
}

std::string told_as_cut_off(const LvmRollbackNote& note, const std::string& how) {
    return "a rollback of " + note.node_directory + " to the snapshot " + note.snapshot_name + " was cut off " + how;
}

// What `look` makes of the first record, by its path, of which it makes anything.
template <typename Found, typename Look>
std::optional<Found> first_of_records(Look look) {
    FileDescriptor records(::open(kRecords, kDirectory | O_CLOEXEC));
    if (!records) {
        return std::nullopt;
    }
    DirectoryStream stream(std::move(records), kRecords);
    for (DirectoryEntry entry; stream.next(entry);) {
        if (auto found = look(std::string(kRecords) + "/" + entry.name)) {
            return found;
        }
    }
    return std::nullopt;
}

}  // namespace

std::string told_as_done(const LvmRollbackNote& note) {
    return told_as_cut_off(
        note, "after it had taken place: the directory is that of the snapshot, and what was there before is kept as " + note.kept_name);
}

std::string told_as_undone(const LvmRollbackNote& note) {
    return told_as_cut_off(note, "before it took place: the directory is what it was");
}

std::string told_of_lost(const LvmRollbackNote& note, const std::string& why) {
    return why.empty() ? ""
                       : "the snapshot " + note.snapshot_name + " was used up by the merge, and couldn't be made anew (" + why +
                             "): take another one under another name while the directory is still what it was";
}

std::optional<LvmRollbackRecord> LvmRollbackRecord::lock(const std::string& path) {
    FileDescriptor directory(::open(path.c_str(), kDirectory | O_CLOEXEC));
    if (!directory || entry::lock_exclusive(directory.get()) != 0) {
        return std::nullopt;
    }
    // One that has ended just now has taken its directory with it.
    const auto now = stat_path(path);
    if (!now || now->stx_ino != stat_fd(directory.get(), path).stx_ino) {
        return std::nullopt;
    }
    return LvmRollbackRecord(path, std::move(directory));
}

std::string LvmRollbackRecord::place() {
    std::string place = kRecords;
    while (!stat_path(place)) {
        place = parent_of_path(place);
    }
    return place;
}

LvmRollbackRecord LvmRollbackRecord::make(const std::string& node_directory) {
    const std::string path = path_of(node_directory);
    make_directories(path, 0700);
    auto record = lock(path);
    if (!record) {
        throw Error::refused("another rollback of " + node_directory + " is under way", "wait until it has ended");
    }
    if (record->read()) {
        throw Error::refused("an earlier rollback of " + node_directory + " was cut off, and isn't ended yet",
                             "nodesnap snapshot list ends it, or says why that isn't possible");
    }
    return std::move(*record);
}

std::optional<LvmRollbackRecord> LvmRollbackRecord::find(const std::string& directory) {
    const std::string wanted = resolved(directory);
    return first_of_records<LvmRollbackRecord>([&](const std::string& path) -> std::optional<LvmRollbackRecord> {
        auto record = lock(path);
        if (record && !record->read()) {
            record->remove();  // it hadn't begun, or had ended
            return std::nullopt;
        }
        return record && is_about(record->note(), wanted) ? std::move(record) : std::nullopt;
    });
}

std::optional<LvmRollbackNote> LvmRollbackRecord::look(const std::string& directory) {
    const std::string wanted = resolved(directory);
    return first_of_records<LvmRollbackNote>([&](const std::string& path) {
        auto note = read(path);
        return note && is_about(*note, wanted) ? std::move(note) : std::nullopt;
    });
}

bool LvmRollbackRecord::read() {
    auto note = read(path_);
    if (note) {
        note_ = std::move(*note);
    }
    return note.has_value();
}

std::optional<LvmRollbackNote> LvmRollbackRecord::read(const std::string& path) {
    const std::string file = path + "/" + kFile;
    const auto text = read_small_file(file, kJsonObjectLimit);
    if (!text) {
        return std::nullopt;
    }
    const JsonObject object = decode_json_object(std::as_bytes(std::span(*text)), kKind, file);
    LvmRollbackNote note;
    for (const auto& [key, value] : members_of(note)) {
        *value = member::path(object.members, key, file);
    }
    for (const auto& [key, value] : texts_of_merge(note)) {
        *value = object.members.contains(key) ? member::path(object.members, key, file) : "";
    }
    for (const auto& [key, value] : numbers_of_merge(note)) {
        *value = object.members.contains(key) ? member::unsigned_integer(object.members, key, file) : 0;
    }
    return note;
}

void LvmRollbackRecord::write(const LvmRollbackNote& note) {
    JsonObject object;
    object.kind = kKind;
    for (const auto& [key, value] : members_of(note)) {
        object.members[key] = member::from_path(*value);
    }
    if (note.is_merge()) {
        for (const auto& [key, value] : texts_of_merge(note)) {
            object.members[key] = member::from_path(*value);
        }
        for (const auto& [key, value] : numbers_of_merge(note)) {
            object.members[key] = *value;
        }
    }
    const Bytes bytes = encode_json_object(object);
    write_file_durably(path_ + "/" + kFile, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), 0600);
    note_ = note;
}

void LvmRollbackRecord::remove() {
    // And what is left of one that was killed while it was written.
    std::vector<std::string> files{kFile};
    DirectoryStream stream(open_path(path_, kDirectory), path_);
    for (DirectoryEntry entry; stream.next(entry);) {
        if (entry.name != kFile) {
            files.push_back(entry.name);
        }
    }
    for (const std::string& file : files) {
        remove_file(path_ + "/" + file);
    }
    sync_directory(lock_.get(), path_);
    remove_directory(path_);
}

}  // namespace nodesnap
