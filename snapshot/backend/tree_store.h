// TreeStore: the snapshots that are trees of files in one folder, made of clones, or of links and copies, as they lie there:
//
//   NAME/tree                what the node directory was
//   NAME/index               where its files are (CloneIndex)
//   NAME/links.index         what its links were (LinkIndex); only where it is made of such
//   NAME/snapshot.json       what it is; durable after the two are
//   .unfinished/NAME/        one that is being made, or removed: never a snapshot
//
// One of the kind kKeptTree is what a node directory was before it was rolled back: its tree is that directory itself, without an index.
//
// A snapshot comes to be, and goes, by one rename between the two. Who makes, uses or removes one has its directory locked. Names are
// SnapshotNaming's. Errors are nodesnap::Error. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/backend/link_index.h"
#include "snapshot/repository/ids.h"

namespace nodesnap {

struct TreeRecord {
    std::string kind;              // of snapshot: "reflink", "hardlink", kKeptTree
    Uuid id;                       // made for it
    std::string name;              // on storage, as an operator's (without_temporary())
    std::string node_directory;    // that it is of
    std::string file_system_uuid;  // that it lies on
    std::uint64_t root_ino = 0;    // of the node directory
    std::uint64_t tree_ino = 0;    // of the tree: a copy of the snapshot has another
    std::uint64_t tree_generation = 0;
    std::int64_t taken_ns = 0;          // UTC
    std::vector<std::string> excludes;  // patterns: what of the node directory isn't in it
};

inline constexpr const char* kKeptTree = "kept";
inline constexpr const char* kTreeName = "tree";
inline constexpr const char* kLinksName = "links";  // InodeClone's, in one that isn't finished
// Whether an open directory is the tree that the record is of.
bool is_tree_of(int tree, const TreeRecord& record);

struct StoredTree {
    FileDescriptor directory;  // NAME
    TreeRecord record;
};

class TreeStore {
public:
    // `folder`: descriptor of the folder, `shown` its path for messages. Nothing is made.
    TreeStore(FileDescriptor folder, std::string shown);

    // An empty directory of that name, locked (shared), with `tree` and `links` in it. Error::refused if one of that name is being made.
    FileDescriptor begin(const std::string& name);
    // Makes durable what is in a begun one, then a snapshot of it. Waits for the storage.
    void finish(const std::string& name, int directory, const TreeRecord& record);
    // After it nothing of that name is a snapshot any more, durably; then removes what that was, and what is unfinished of that name.
    void remove(const std::string& name, FileDescriptor locked = {});
    // A begun one, before it is finished. Error::refused if one of that name is being made.
    void rename_unfinished(const std::string& from, const std::string& to);
    void rename(const std::string& from, const std::string& to);  // a snapshot

    // For what is made in another directory of nodesnap's own, `above`, by whoever puts it into its place.
    // As begin(), but not locked.
    static FileDescriptor make_parts(int above, const std::string& name, const std::string& shown);
    static void write_record(int directory, const TreeRecord& record, const std::string& shown);  // durably
    // Whatever its name; nullopt: nothing that we made, or without a record that can be read.
    static std::optional<StoredTree> read(int above, const std::string& name, const std::string& shown);
    // With a record of that name it becomes a snapshot, durably. False if there is one of that name.
    bool adopt(int above, const std::string& from, const std::string& name);
    void remove_in(int above, const std::string& name, const std::string& shown) const;

    std::optional<StoredTree> open(const std::string& name) const;  // nullopt: no snapshot that we made
    bool exists(const std::string& name) const;                     // of whatever kind
    bool is_still_there(const std::string& name, int directory) const;
    void for_each(const std::function<void(const std::string& name, StoredTree found)>& visit) const;
    // Of all snapshots that are made of links; to be told what is done to these.
    LinkIndexes links() const;
    // Removes what is unfinished, fits, and isn't being made.
    void clear_up(const std::function<bool(const std::string& name)>& fits);

private:
    FileDescriptor unfinished(bool make) const;
    void remove_unfinished(int above, const std::string& name) const;
    void make_names_durable(int other) const;
    void make_names_durable() const;

    FileDescriptor folder_;
    std::string shown_;
};

}  // namespace nodesnap
