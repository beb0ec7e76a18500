// LvmRollbackRecord: what a rollback of a logical volume is about, where a command finds it that comes after a kill or a power cut: in a
// directory of the host's state, not on the volume, whose name may be another then, and which may not even be mounted.
//
//     /var/lib/nodesnap/rollback/<as the node's snapshots are called>/     locked by who is at work
//         record.json
//
// Durable when a call returns. Errors: nodesnap::Error. One thread. Needs root.
#pragma once

#include <cstdint>
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

    // Of a classic snapshot, which is merged into its volume, `made` is its own UUID, and there is more to know:
    std::string merged;   // what it is called on storage; empty of any other rollback
    std::string written;  // lvm::write_mark() of the volume before the merge; empty before that may have begun
    std::uint64_t merged_bytes = 0;
    std::uint64_t merged_chunk_bytes = 0;
    std::uint64_t merged_at_s = 0;  // when it was taken, since 1970

    bool is_merge() const { return !merged.empty(); }
};

// As sentences, of one that was cut off.
std::string told_as_done(const LvmRollbackNote& note);
std::string told_as_undone(const LvmRollbackNote& note);
// What to say if the snapshot that was merged isn't there any more, for that reason; empty if that is.
std::string told_of_lost(const LvmRollbackNote& note, const std::string& why);

class LvmRollbackRecord {
public:
    // Error::refused if another process is at it, or one that was cut off hasn't been ended.
    static LvmRollbackRecord make(const std::string& node_directory);
    // That of a rollback of what the directory lies on, be it mounted or not; nullopt if there is none, or somebody is at work. `directory`
    // need not exist.
    static std::optional<LvmRollbackRecord> find(const std::string& directory);

    // As find(), but what it is about, whoever is at work.
    static std::optional<LvmRollbackNote> look(const std::string& directory);

    // Where they are kept, as far as that is there.
    static std::string place();

    const LvmRollbackNote& note() const { return note_; }
    void write(const LvmRollbackNote& note);
    void remove();
    int lock_descriptor() const { return lock_.get(); }

private:
    LvmRollbackRecord(std::string path, FileDescriptor lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    static std::optional<LvmRollbackRecord> lock(const std::string& path);
    static std::optional<LvmRollbackNote> read(const std::string& path);
    bool read();

    std::string path_;
    FileDescriptor lock_;
    LvmRollbackNote note_;
};

}  // namespace nodesnap
