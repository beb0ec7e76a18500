// CloneIndex: the clones of a snapshot's regular files, by the number and generation of what they are clones of.
//
// A file of its own beside the tree, written when all clones are made: one record of a fixed size for each, ascending. It says where a
// clone is, and is believed no further: what is opened says by its CloneOrigin what it is a clone of, and by its time of change that nobody
// has touched it since. Of a snapshot made of links the index holds these too, and LinkIndex says what they were. Needs
// CAP_DAC_READ_SEARCH. What can't be read counts as not there. Reading is thread-safe, in constant memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_descriptor.h"
#include "platform/file_handle.h"
#include "snapshot/backend/link_index.h"
#include "snapshot/backend/snapshot_files.h"

namespace nodesnap {

class NamelessFiles;

// What a link shows isn't what it was when the snapshot was made: the node's own file was written to. No backup can be made of that
// snapshot.
class SpoiltSnapshot : public Error {
public:
    explicit SpoiltSnapshot(const Error& error) : Error(error) {}
};

class CloneIndex : public SnapshotFiles {
public:
    // Of the tree of clones `tree`, into a new file of the directory. Nothing is durable yet. `path` is for messages.
    static void build(int tree, int directory, const std::string& path);

    // `node_directory`: that the snapshot is of, where it may be made of links. `nameless`: what its regular files are, of a tree in which
    // other files stand for these; such a tree has no index.
    explicit CloneIndex(int directory, std::string node_directory = "", std::shared_ptr<const NamelessFiles> nameless = nullptr);

    bool is_nameless() const { return nameless_ != nullptr; }
    // A regular file of the tree. A negative errno if that fails.
    int try_open(int directory, const std::string& name, int flags) const noexcept;
    std::optional<FileStatus> status_of(int directory, const std::string& name) const;

    bool has_links() const override { return links_.exists(); }
    std::optional<LinkRecord> link(std::uint64_t ino) const override { return links_.exists() ? links_.find(ino) : std::nullopt; }
    // The number of what the entry of a directory of the snapshot is of. Error::failed if it is nothing of ours.
    std::uint64_t number_of(int directory, const std::string& name, const std::string& path) const;
    // SpoiltSnapshot if the open file is a link that was written to, can be, or may have been. `path`: below the node directory.
    void check_link(int file, const std::string& path) const;

    FileDescriptor open(std::uint64_t ino, std::uint64_t generation) const override;

private:
    struct Record;
    std::optional<Record> find(std::uint64_t ino, std::uint64_t generation) const;
    FileDescriptor open_nameless(std::uint64_t ino, std::uint64_t generation) const;
    static bool is_as_it_was(const LinkRecord& link, std::uint64_t generation, const FileStatus& status);
    bool was_renamed(const FileStatus& status, const LinkRecord& link, const std::string& path) const;

    FileDescriptor directory_;
    std::string node_directory_;
    std::shared_ptr<const NamelessFiles> nameless_;
    LinkIndex links_;
    FileDescriptor file_;
    std::uint64_t records_ = 0;
};

}  // namespace nodesnap
