// LvmRollbackRecord: what a rollback of a logical volume is about, where a command finds it that comes after a kill or a power cut: in a
// directory of the host's state, not on the volume, whose name may be another then, and which may not even be mounted.
//
//     /var/lib/nodesnap/rollback/<as the node's snapshots are called>/     locked by who is at work
//         record.json
//
// Durable when a call returns. Errors: nodesnap::Error. One thread. Needs root.
#pragma once

#include <optional>
#include <string>

#include "platform/file_descriptor.h"
#include "platform/mount.h"

namespace nodesnap {

struct LvmRollbackNote {
    std::string node_directory;
    std::string group;          // UUID, as lvm::Volume's
    std::string group_name;     // as it was then
    std::string replaced;       // UUID of the volume that goes
    std::string made;           // UUID of the one that takes its place; empty before that is known
    std::string name;           // of the volume, which the other one gets
    std::string kept;           // what the replaced one is called then, on storage
    std::string work;           // what the one that is made is called before
    std::string snapshot_name;  // given names, for messages
    std::string kept_name;
    Mount mount;  // that shows the volume: mount point, type and options
};

class LvmRollbackRecord {
public:
    // Error::refused if another process is at it, or one that was cut off hasn't been ended.
    static LvmRollbackRecord make(const std::string& node_directory);
    // That of a rollback of what the directory lies on, be it mounted or not; nullopt if there is none, or somebody is at work. `directory`
    // need not exist.
    static std::optional<LvmRollbackRecord> find(const std::string& directory);

    // Where they are kept, as far as that is there.
    static std::string place();

    const LvmRollbackNote& note() const { return note_; }
    void write(const LvmRollbackNote& note);
    void remove();

private:
    LvmRollbackRecord(std::string path, FileDescriptor lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    static std::optional<LvmRollbackRecord> lock(const std::string& path);
    bool read();

    std::string path_;
    FileDescriptor lock_;
    LvmRollbackNote note_;
};

}  // namespace nodesnap
