// Catalog: gathers what the drain learns about names, inodes and runs, in any order and from any thread, and turns it into the backup's
// tree. Memory is bounded: what doesn't fit spills to the scratch directory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/records.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

class Catalog {
public:
    explicit Catalog(const std::string& scratch_directory);

    // Of several records with one key (a hard link that was met twice) the first that isn't damaged counts.
    void add_inode(std::uint64_t ino, const Inode& inode);
    void add_dirent(std::uint64_t directory, std::string_view name, const Dirent& dirent);
    void add_xattr(std::uint64_t ino, std::string_view name, const Xattr& xattr);
    void add_user(std::uint32_t uid, std::string_view name);
    void add_group(std::uint32_t gid, std::string_view name);
    // One run of a file whose inode record was added without runs.
    void add_run(std::uint64_t ino, const Run& run);

    // Writes the tree. Call once, after all adds.
    TreeRoot build(NodeWriter& nodes);
    std::uint64_t spilled_bytes() const { return entries_.spilled_bytes() + runs_.spilled_bytes(); }

private:
    // The runs sorter's front, decoded.
    struct PendingRun {
        bool valid = false;
        std::uint64_t ino = 0;
        Run run;
    };
    void next_run(PendingRun& pending);
    Bytes with_runs(std::uint64_t ino, std::string_view value, PendingRun& pending, NodeWriter& nodes);

    ExternalSorter entries_;
    ExternalSorter runs_;
};

}  // namespace nodesnap
