// Counterparts: what of the parent backup the contents of a file are compared with, where nothing tells what has changed.
//
// The same inode's record where it is provably that: on the parent's file system, with its number, generation and time of birth; so a file
// is found whatever it is called now. Otherwise the record that the parent backup has at the file's path: after a restore, or on another
// file system, all numbers are others. Any answer is a right one, since only what compares equal is taken over; it decides what is found.
// Costs up to three look-ups in the parent's tree. Thread-safe, constant memory. Throws Error::damaged where the tree is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "snapshot/drain/drain.h"
#include "snapshot/drain/source_directory.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct Counterpart {
    std::uint64_t ino = 0;  // in the parent backup
    Inode record;
};

class Counterparts {
public:
    // Both must outlive this. `clones`: of the source, if it is a tree of clones; or nullptr.
    Counterparts(const Repository& repository, const DrainParent& parent, const CloneIndex* clones)
        : repository_(repository), parent_(parent), clones_(clones) {}

    // The parent backup's number of the node directory.
    std::uint64_t root() const { return parent_.backup.root_ino; }
    // That of an open directory, which is called `name` below one with the number `above`; none where there is no counterpart.
    std::optional<std::uint64_t> directory(const SourceDirectory& directory, std::optional<std::uint64_t> above,
                                           const std::string& name) const;
    // The record of a regular file with data that isn't in its record; none if there is no such.
    std::optional<Counterpart> file(const SourceDirectory& directory, const SourceEntry& entry, const Inode& now) const;

private:
    std::optional<Dirent> named(std::optional<std::uint64_t> directory, const std::string& name) const;
    std::optional<Inode> numbered(std::uint64_t ino) const;

    const Repository& repository_;
    const DrainParent& parent_;
    const CloneIndex* const clones_;
};

}  // namespace nodesnap
