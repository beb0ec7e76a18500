// Diff: what changed between two backups of one repository, by path.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "snapshot/diff/inode.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct DiffOptions {
    bool all = false;               // tell consequences of other changes too, see InodeDiff
    std::string scratch_directory;  // empty: $TMPDIR or /var/tmp
};

struct PathChange {
    enum class Kind { kAdded, kRemoved, kContent, kAttributes, kRenamed };
    Kind kind = Kind::kContent;
    std::string path;        // in the later backup; of what was removed, in the earlier one. Empty: the node directory
    std::string old_path;    // kRenamed
    FilePair files;          // kAdded: only what is after; kRemoved: only what is before
    InodeChange change;      // kContent, kAttributes, kRenamed
    bool hard_link = false;  // kAdded, kRemoved: a further name of a file that both backups hold
    bool replaced = false;   // another file of the same type has taken the name
    std::string damage;      // not empty: what could not be read to compare them; `change` says nothing then
    const Inode& inode() const { return kind == Kind::kRemoved ? files.before : files.after; }
};

// Names are counted, bytes of files with several names once.
struct DiffTotals {
    std::uint64_t added = 0, removed = 0, content = 0, attributes = 0, renamed = 0;
    std::uint64_t added_bytes = 0, removed_bytes = 0;  // sizes of regular files
    std::uint64_t changed_bytes = 0;                   // in files that both backups hold
    std::uint64_t damaged = 0;                         // could not be compared
    bool by_path = false;                              // inode numbers of the two mean nothing to each other
    bool any() const { return added + removed + content + attributes + renamed != 0; }
};

// Tells each change, in order of paths, component by component: what is in a directory follows it. A directory that was renamed is one
// change, for what is in it keeps its place in it.
//
// How: TreeDiff finds the inodes and names that differ, at a cost that follows what differs; they are remembered in two filters of a fixed
// size, which may hold one too many but none too few. An inode doesn't know its names, so the directories are then walked once from the top
// (twice, if names were removed), to find the paths of what differs; no inode is looked at on the way. Names are sorted by inode, to find
// those that were moved and to look the inodes up in the order in which they are stored; then all is sorted by path, each pair of inodes
// compared, and what proves equal left out. Sorting spills to the scratch directory. Alternatives: walking both trees with all their inodes
// costs several times as much when little differs, and climbing from the inodes up to the root needs a table of all directories.
//
// Where the backups were taken from different file systems, inode numbers say nothing: paths are compared with paths, and nothing is a
// rename.
//
// Memory: about 40 MiB besides the repository's caches, and a name for each level of directories. One thread, no lock. Throws
// Error::damaged if what holds the names can't be read; a file that can't be compared is told and counted.
DiffTotals run_diff(const Repository& repository, const Manifest& before, const Manifest& after, const DiffOptions& options,
                    const std::function<void(const PathChange&)>& each);

}  // namespace nodesnap
