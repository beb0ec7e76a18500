// TreeCheck: proves one backup's tree of names and inodes: every record decodes and fits its inode, every name leads to an inode of its
// type, every inode has a name, every directory is below the root, file maps lie within their files. What the maps use goes to the ledger.
//
// Bounded memory: one pass over the tree in order of keys; what must be matched across it goes through external sorters.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "io/progress.h"
#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify/findings.h"
#include "snapshot/verify/pack_ledger.h"

namespace nodesnap {

class TreeCheck {
public:
    // `object` is the name of the manifest, for messages.
    TreeCheck(NodeReader& nodes, const Manifest& manifest, std::string object, const std::string& scratch_directory, PackLedger& ledger,
              Findings& findings, Progress& progress);
    ~TreeCheck();
    void run();

private:
    // The inode whose records are being read: its own comes first, then its attributes, then, if it is a directory, its entries.
    struct Current {
        std::uint64_t ino = 0;
        bool present = false;  // it has a record that could be read
        FileType type = FileType::kRegular;
        std::uint32_t xattrs_expected = 0;
        std::uint32_t xattrs = 0;
    };

    bool walk();
    void check_entry(const TreeEntry& entry);
    void begin_inode(std::uint64_t ino);
    void end_inode();
    void check_inode(std::uint64_t ino, const Bytes& value);
    void check_map(const Inode& inode);
    void check_xattr(std::string_view name, const Bytes& value);
    void check_dirent(std::string_view name, const Bytes& value);
    void match_names();
    void check_names(std::uint64_t ino, std::uint64_t names, FileType type, std::uint64_t links);
    void check_reachable();
    void damaged(std::uint64_t ino, const std::string& what);

    NodeReader& nodes_;
    const Manifest& manifest_;
    const std::string object_;
    const std::string scratch_directory_;
    PackLedger& ledger_;
    Findings& findings_;
    Progress& progress_;
    Current current_;
    std::uint64_t last_ino_ = 0;
    std::unique_ptr<ExternalSorter> links_;      // inodes and the names that lead to them, by inode
    std::unique_ptr<ExternalSorter> by_child_;   // directory and its parent, by directory
    std::unique_ptr<ExternalSorter> by_parent_;  // the same, by parent
    std::uint64_t parents_ = 0;
};

}  // namespace nodesnap
