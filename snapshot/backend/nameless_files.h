// NamelessFiles: the regular files of a snapshot in which none has a name on the node's file system, since there is no place for one: they
// are held open, and are gone with the process. The snapshot's tree lies in memory; an empty file in it stands for each name.
//
// Thread-safe. Each takes a descriptor. Errors: nodesnap::Error, unless said otherwise. Needs CAP_SYS_ADMIN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "platform/file.h"
#include "platform/file_descriptor.h"

namespace nodesnap {

class NamelessFiles {
public:
    // As many may be held open: each costs the kernel some 2 KiB.
    static std::size_t limit();

    // `node_directory`: that they are of, and on the file system of which new ones are made.
    explicit NamelessFiles(const std::string& node_directory);

    // A new one, open for reading and writing: empty, ours, with nothing that the node directory hands down.
    FileDescriptor make(const std::string& path) const;
    // What the entry of that directory of the tree shows from now on; there is none yet. `ino`: of the inode of the node that it is, or is
    // made of. `path` is for messages.
    void put(int directory, const std::string& name, FileDescriptor file, std::uint64_t ino, const std::string& path);
    // Returns 0 or an errno. Not a directory; may be what is no regular file.
    int remove(int directory, const std::string& name);

    // None where the entry stands for nothing.
    std::optional<std::uint64_t> number_of(int directory, const std::string& name) const;
    std::optional<FileStatus> status_of(int directory, const std::string& name) const;
    // Opened anew. A negative errno if that fails; -ENOENT where the entry stands for nothing.
    int try_open(int directory, const std::string& name, int flags) const noexcept;
    // By the number that it was put with; one of them.
    int try_open(std::uint64_t ino, int flags) const noexcept;

private:
    struct File {
        FileDescriptor file;
        std::uint64_t ino = 0;
    };

    const File* find(int directory, const std::string& name) const;  // with the mutex held

    FileDescriptor node_directory_;
    const std::size_t limit_;
    bool hands_down_ = false;
    mutable std::mutex mutex_;
    std::unordered_map<std::uint64_t, File> files_;               // by the number of what stands for it
    std::unordered_map<std::uint64_t, std::uint64_t> stand_ins_;  // by the node's number
};

}  // namespace nodesnap
