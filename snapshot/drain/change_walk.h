// ChangeWalk: finds what of a node directory differs from the parent backup, by the trees of both snapshots, and tells it as edits of the
// parent's tree. See docs/design.md, "Incremental backups". Takes the place of SourceWalk.
//
// What was touched since the parent's snapshot is drained again wherever a name of it is in the node directory and not excluded, and
// dropped where none is. Directories that were touched are listed again and compared with the parent backup's entries, in the order of
// keys, so that a directory of any size costs no more memory: their lists go through a sorter. What isn't touched but new to the backup
// (moved in from outside, from an excluded name) is drained with all below it.
// Memory: one open directory, and a bounded number of remembered places; what waits to be listed spills to the scratch directory. One
// thread.
// Needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "platform/btrfs_tree.h"
#include "snapshot/drain/catalog.h"
#include "snapshot/drain/drain.h"
#include "snapshot/drain/source_walk.h"
#include "snapshot/exclude.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class ChangeWalk {
public:
    // `source` is the node directory in a snapshot of the subvolume that `parent`'s snapshot is of too, or of a clone; or itself,
    // `is_live`: then what goes meanwhile is left out.
    ChangeWalk(int source, bool is_live, const Repository& repository, const DrainParent& parent, const ExcludeRules& excludes,
               Catalog& catalog, SourceSink& sink, const std::string& scratch_directory);

    // Until the sink was told everything, or is stopped. Throws what the sink throws, and Error::failed when it is interrupted.
    void run();

private:
    static constexpr std::size_t kBatchEntries = 128;
    static constexpr std::size_t kRememberedPlaces = 64U << 10;

    // A directory's place; none if it isn't in the backup.
    using Reached = std::optional<DirectoryPlace>;
    struct Name {
        std::uint64_t directory = 0;
        DirectoryPlace place;  // of the directory
        std::string name;
    };
    using TakeEntry = std::function<void(const std::string& name, const Dirent& dirent)>;

    void take_touched(const btrfs::InodeItem& inode);
    void take_touched_in_parent();
    void take(const btrfs::InodeItem& inode, const Name& name, bool incomplete = false);
    void flush();

    Reached reach(std::uint64_t directory);
    std::optional<Name> name_of(const btrfs::InodeItem& inode);
    bool in_backup(std::uint64_t ino);
    bool excluded(const DirectoryPlace& directory, const std::string& name, bool is_directory) const;
    bool held(std::uint64_t ino) const;
    bool moved(std::uint64_t ino, const Name& name) const;
    std::optional<btrfs::InodeItem> find(std::uint64_t ino, const DirectoryPlace& place) const;

    bool list(const btrfs::InodeItem& directory, const DirectoryPlace& place, const TakeEntry& take_entry);
    bool list_for_comparison(const btrfs::InodeItem& directory, const DirectoryPlace& place, const TakeEntry& take_entry = {});
    void list_all_below(const btrfs::InodeItem& directory);
    void compare_lists();
    void compare_list(std::uint64_t directory);
    void take_new(std::uint64_t ino, const Name& name);
    void drop(std::uint64_t ino);
    void drop_former_directory(std::uint64_t ino);

    const int source_;
    const bool is_live_;
    const std::uint64_t subvolume_;
    const std::uint64_t root_ino_;
    const int parent_source_;    // -1: what the source comes from
    const std::uint64_t since_;  // the transaction that made the parent's snapshot, or the last one before the two parted
    const Repository& repository_;
    const Manifest& parent_;
    const ExcludeRules& excludes_;
    Catalog& catalog_;
    SourceSink& sink_;
    const std::string scratch_directory_;
    ExternalSorter lists_;  // key of an entry -> Dirent; before a directory's entries its number -> nothing
    std::string_view list_key_, list_value_;
    bool list_more_ = false;
    std::unordered_map<std::uint64_t, Reached> reached_;
    std::unique_ptr<Batch> batch_;
};

}  // namespace nodesnap
