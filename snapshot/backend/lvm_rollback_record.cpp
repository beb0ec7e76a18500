#include "snapshot/backend/lvm_rollback_record.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <span>
#include <utility>

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

}  // namespace

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
    FileDescriptor records(::open(kRecords, kDirectory | O_CLOEXEC));
    if (!records) {
        return std::nullopt;
    }
    std::error_code ignored;
    const std::string wanted = std::filesystem::weakly_canonical(directory, ignored).string();
    DirectoryStream stream(std::move(records), kRecords);
    for (DirectoryEntry entry; stream.next(entry);) {
        auto record = lock(std::string(kRecords) + "/" + entry.name);
        if (!record) {
            continue;
        }
        if (!record->read()) {
            record->remove();  // it hadn't begun, or had ended
        } else if (const LvmRollbackNote& note = record->note();
                   wanted == note.node_directory || at_or_below(wanted, note.mount.mount_point)) {
            return record;
        }
    }
    return std::nullopt;
}

bool LvmRollbackRecord::read() {
    const std::string file = path_ + "/" + kFile;
    const auto text = read_small_file(file, kJsonObjectLimit);
    if (!text) {
        return false;
    }
    const JsonObject object = decode_json_object(std::as_bytes(std::span(*text)), kKind, file);
    for (const auto& [key, value] : members_of(note_)) {
        *value = member::path(object.members, key, file);
    }
    return true;
}

void LvmRollbackRecord::write(const LvmRollbackNote& note) {
    JsonObject object;
    object.kind = kKind;
    for (const auto& [key, value] : members_of(note)) {
        object.members[key] = member::from_path(*value);
    }
    const Bytes bytes = encode_json_object(object);
    write_file_durably(path_ + "/" + kFile, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), 0600);
    note_ = note;
}

void LvmRollbackRecord::remove() {
    remove_file(path_ + "/" + kFile);
    sync_directory(lock_.get(), path_);
    remove_directory(path_);
}

}  // namespace nodesnap
