// Catalog: gathers what the drain learns about names, inodes and runs, in any order and from any thread, and turns it into the backup's
// tree: a new one, or the parent backup's with what was gathered as edits. Memory is bounded: what doesn't fit spills to the scratch
// directory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/manifest.h"
#include "snapshot/repository/records.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

class Catalog {
public:
    explicit Catalog(const std::string& scratch_directory);

    // Of several records with one key (a hard link that was met twice) the first that isn't damaged counts. An inode's record replaces the
    // parent backup's, with its attributes.
    void add_inode(std::uint64_t ino, const Inode& inode);
    void add_inode(std::uint64_t ino, std::span<const std::byte> encoded);
    // Of an inode of which only the type is known. What runs were added for it stay: what lies between them, and behind the last, counts
    // as lost.
    void add_unreadable(std::uint64_t ino, const Inode& inode);
    // A record of a file whose map is the parent backup's, with the runs and cuts that are added for it as edits.
    void edit_inode(std::uint64_t ino, const Inode& inode);
    void add_dirent(std::uint64_t directory, std::string_view name, const Dirent& dirent);
    void add_xattr(std::uint64_t ino, std::string_view name, const Xattr& xattr);
    void add_xattr(std::string_view key, std::span<const std::byte> encoded);
    void add_user(std::uint32_t uid, std::string_view name);
    void add_group(std::uint32_t gid, std::string_view name);
    // One run of a file whose inode record was added without runs.
    void add_run(std::uint64_t ino, const Run& run);

    // What the parent backup has and this one hasn't.
    void drop_dirent(std::uint64_t directory, std::string_view name);
    void drop_inode(std::uint64_t ino);  // with its attributes, and the entries of a directory
    void cut(std::uint64_t ino, std::uint64_t offset, std::uint64_t end);

    struct Result {
        TreeRoot tree;
        Manifest::Totals totals;  // files, directories, others, logical_bytes and data_bytes of the whole tree
    };
    // Writes the tree. Call once, after all adds. `parent` is the backup whose nodes are referred to where they say the same, or nullptr.
    // `edits`: what was gathered is what differs from its tree; otherwise it is all that there is.
    Result build(const Repository& repository, const Manifest* parent, bool edits, NodeWriter& nodes);
    std::uint64_t spilled_bytes() const { return entries_.spilled_bytes() + runs_.spilled_bytes(); }

private:
    class Build;
    void add_entry(std::string_view key, char tag, std::span<const std::byte> value);

    ExternalSorter entries_;
    ExternalSorter runs_;
};

}  // namespace nodesnap
