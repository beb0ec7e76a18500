// CloneIndex: the clones of a snapshot's regular files, by the number and generation of what they are clones of.
//
// A file of its own beside the tree, written when all clones are made: one record of a fixed size for each, ascending. It says where a
// clone is, and is believed no further: what is opened says by its CloneOrigin what it is a clone of, and by its time of change that nobody
// has touched it since. Needs CAP_DAC_READ_SEARCH. What can't be read counts as not there. Reading is thread-safe, in constant memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "platform/file_descriptor.h"
#include "platform/file_handle.h"

namespace nodesnap {

class CloneIndex {
public:
    // Of the tree of clones `tree`, into a new file of the directory. Nothing is durable yet. `path` is for messages.
    static void build(int tree, int directory, const std::string& path);

    explicit CloneIndex(int directory);

    // Read-only. Empty if there is no clone of that inode, or if it isn't what it was when the snapshot was made.
    FileDescriptor open(std::uint64_t ino, std::uint64_t generation) const;

private:
    struct Record;
    std::optional<Record> find(std::uint64_t ino, std::uint64_t generation) const;

    FileDescriptor directory_;
    FileDescriptor file_;
    std::uint64_t records_ = 0;
};

}  // namespace nodesnap
