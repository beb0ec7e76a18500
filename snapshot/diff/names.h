// The names in which two backups differ, and those of inodes that may differ, sorted by path. See snapshot/diff.h for how they are found.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "snapshot/diff/inode.h"
#include "snapshot/diff/inode_filter.h"
#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/repository.h"
#include "snapshot/tree_path.h"

namespace nodesnap {

struct NameChange {
    enum class Kind : std::uint8_t {
        kRemoved,  // only the earlier backup has the name, or has it for another file
        kAdded,    // the same of the later
        kRenamed,  // a removed and an added name of one file
        kSuspect,  // both have it, for inodes that may differ
    };
    Kind kind = Kind::kSuspect;
    std::string path, old_path;
    std::uint64_t ino_before = 0, ino_after = 0;
    bool hard_link = false;  // kRemoved, kAdded: the other backup holds the file too, under another name
    Bytes before, after;     // the inodes' encoded records; empty where they have to be looked up
};

class NameDiff {
public:
    // `by_path`: inode numbers of the two mean nothing to each other; then every name is removed or added, and one that is both is a
    // suspect.
    NameDiff(const Repository& repository, const Manifest& before, const Manifest& after, bool by_path,
             const std::string& scratch_directory);
    // In order of paths, component by component. A name that is removed and added comes twice. False at the end.
    bool next(NameChange& change);

private:
    struct Level {
        std::uint64_t ino;
        bool foreign;  // not the directory that the other backup has under this number
    };
    struct Records {
        std::optional<Bytes> before, after;
        bool same_file() const;  // both are there, and of one file
    };

    void find_touched();
    void walk(const Manifest& backup, const Manifest& other, NameChange::Kind kind);
    void visit(const Manifest& other, NameChange::Kind kind, const Level* directory, const TreeWalker& walker, const NamedEntry& entry);
    bool is_foreign(const NamedEntry& directory) const;
    bool holds_name(const Manifest& backup, std::uint64_t directory, const NamedEntry& entry) const;
    Records records_of(std::uint64_t ino) const;
    void join_by_inode();
    void add(const NameChange& change);

    const Repository& repository_;
    const Manifest& before_;
    const Manifest& after_;
    const bool by_path_;
    InodeFilter inodes_;       // whose records or attributes differ
    InodeFilter directories_;  // whose names differ
    bool any_touched_ = false;
    bool names_removed_ = false;
    ExternalSorter by_inode_;  // (inode, kind) -> path
    ExternalSorter by_name_;   // path -> the rest of a NameChange
};

}  // namespace nodesnap
