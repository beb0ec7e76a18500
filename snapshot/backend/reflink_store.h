// ReflinkStore: the snapshots made of clones in one folder, as they lie there:
//
//   NAME/tree                the clone of the node directory
//   NAME/index               where the clones are (CloneIndex)
//   NAME/snapshot.json       what it is; durable after the two are
//   .unfinished/NAME/        one that is being made, or removed: never a snapshot
//
// A snapshot comes to be, and goes, by one rename between the two. Who makes, uses or removes one has its directory locked. Names are
// SnapshotNaming's. Errors are nodesnap::Error. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "platform/file_descriptor.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

struct ReflinkRecord {
    Uuid id;                       // made for it
    std::string name;              // on storage, as an operator's (without_temporary())
    std::string node_directory;    // that it is of
    std::string file_system_uuid;  // that it lies on
    std::uint64_t root_ino = 0;    // of the node directory
    std::uint64_t tree_ino = 0;    // of its clone: a copy of the snapshot has another
    std::uint64_t tree_generation = 0;
    std::int64_t taken_ns = 0;  // UTC
};

struct StoredReflink {
    FileDescriptor directory;  // NAME
    ReflinkRecord record;
};

class ReflinkStore {
public:
    // `folder`: descriptor of the folder, `shown` its path for messages. Nothing is made.
    ReflinkStore(FileDescriptor folder, std::string shown);

    // An empty directory of that name, locked (shared), with `tree` and `links` in it. Error::refused if one of that name is being made.
    FileDescriptor begin(const std::string& name);
    // Makes durable what is in a begun one, then a snapshot of it. Waits for the storage.
    void finish(const std::string& name, int directory, const ReflinkRecord& record);
    // After it nothing of that name is a snapshot any more, durably; then removes what that was, and what is unfinished of that name.
    void remove(const std::string& name, FileDescriptor locked = {});
    void rename(const std::string& from, const std::string& to);  // a snapshot; false if there is one of that name

    std::optional<StoredReflink> open(const std::string& name) const;  // nullopt: no snapshot that we made
    bool exists(const std::string& name) const;                        // of whatever kind
    bool is_still_there(const std::string& name, int directory) const;
    void for_each(const std::function<void(const std::string& name, StoredReflink found)>& visit) const;
    // Removes what is unfinished, fits, and isn't being made.
    void clear_up(const std::function<bool(const std::string& name)>& fits);

private:
    FileDescriptor unfinished(bool make) const;
    void make_names_durable() const;

    FileDescriptor folder_;
    std::string shown_;
};

}  // namespace nodesnap
