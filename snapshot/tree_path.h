// Finding one's way in a backup's tree of names and inodes: lookup of a path, listing of a directory, walking a whole tree.
//
// All of it runs in bounded memory, however large a directory or deep a tree is: nothing but a name is kept for each level. What is
// read isn't trusted: names that can't be (empty, ".", "..", with '/' or NUL), directories that contain themselves, more names than the
// backup holds, and inodes that are missing or of another type than the name says are an Error::damaged. One thread per object; several
// objects may be used at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "snapshot/repository/repository.h"

namespace nodesnap {

// The inode of that number; Error::damaged if the backup has none.
Inode load_inode(const Repository& repository, const Manifest& backup, std::uint64_t ino);
// The same, and proves that it is of the type that its name's entry says.
Inode load_inode(const Repository& repository, const Manifest& backup, std::uint64_t ino, FileType type);

// `path` is relative to the node directory, of bytes; a '/' at either end and "." components are ignored; "" is the node directory itself.
// nullopt if there is nothing of that name, or if something on the way isn't a directory. Symlinks aren't followed, ".." isn't a name.
std::optional<std::pair<std::uint64_t, Inode>> find_path(const Repository& repository, const Manifest& backup, std::string_view path);

// The path without empty and "." components: "a//b/./c/" is "a/b/c". Error::usage for one that holds "..".
std::string normalized_path(std::string_view path);

struct NamedEntry {
    std::string name;
    std::uint64_t ino = 0;
    FileType type = FileType::kRegular;
};

// Entries of one directory in ascending order of their names' bytes. Memory: one batch of entries.
class DirectoryLister {
public:
    DirectoryLister(const Repository& repository, const Manifest& backup, std::uint64_t directory);
    bool next(NamedEntry& entry);  // false at the end
    // Forgets what was read ahead; the next call reads on behind the last entry returned.
    void drop_read_ahead();

private:
    void fill();
    static constexpr std::size_t kSmallestBatch = 16;
    static constexpr std::size_t kLargestBatch = 512;

    const Repository* repository_;
    TreeRoot root_;
    std::uint64_t directory_;
    std::string last_;  // the last name returned; empty at first
    std::vector<NamedEntry> batch_;
    std::size_t position_ = 0;
    std::size_t batch_limit_ = kSmallestBatch;  // grows while the directory goes on
    bool end_ = false;
};

struct NamedXattr {
    std::string name;
    Xattr value;
};

// Loads many inodes with their attributes; fastest when they are asked for in ascending order, since neighbours lie in one node.
class InodeLoader {
public:
    InodeLoader(const Repository& repository, const Manifest& backup);
    // Attributes are added to `xattrs` as long as they are few; returns false if they are too many to be kept, for_each_xattr() gives them
    // all then.
    bool load(std::uint64_t ino, FileType type, Inode& inode, std::vector<NamedXattr>& xattrs);

private:
    static constexpr std::size_t kXattrLimit = 32;
    bool seek(const std::string& key, TreeEntry& entry);

    const Repository& repository_;
    const Manifest& backup_;
    std::optional<TreeCursor> cursor_;
    TreeEntry ahead_;  // read behind the last inode's attributes
    bool have_ahead_ = false;
};
void for_each_xattr(const Repository& repository, const Manifest& backup, std::uint64_t ino,
                    const std::function<void(const NamedXattr&)>& each);

struct TreeStep {
    enum class Kind {
        kEnter,  // a directory, before what is in it
        kEntry,  // anything else
        kLeave,  // the directory entered last is through
    };
    Kind kind = Kind::kEntry;
    NamedEntry entry;       // of the directory for kEnter and kLeave
    std::size_t depth = 0;  // of the entry; that of the start is 0
};

// Walks a tree depth-first. Of each directory first all that aren't directories, then its subdirectories; both in order of names. The first
// step enters the start, whose name is empty, the last one leaves it. At most kLevelLimit levels.
class TreeWalker {
public:
    static constexpr std::size_t kLevelLimit = 100'000;

    TreeWalker(const Repository& repository, const Manifest& backup, std::uint64_t start);
    bool next(TreeStep& step);  // false at the end
    void skip();                // directly after a kEnter: what is in it isn't visited; its kLeave comes next
    // Of the step's entry, relative to the start: "a/b"; empty for the start itself.
    std::string path() const;

private:
    static constexpr std::size_t kReadAheadLevels = 32;
    struct Level {
        NamedEntry self;
        DirectoryLister lister;
        bool skipped = false;
        bool subdirectories = false;      // the second pass over its entries, which takes the directories
        bool has_subdirectories = false;  // seen in the first pass
    };
    void enter(NamedEntry entry, TreeStep& step);
    bool next_in(Level& level, NamedEntry& entry);
    void leave(TreeStep& step);

    const Repository& repository_;
    const Manifest& backup_;
    std::uint64_t start_;
    std::vector<Level> levels_;
    std::set<std::uint64_t> on_stack_;
    std::string current_;  // name of the last kEntry or kLeave, empty after a kEnter
    std::uint64_t steps_ = 0;
    bool started_ = false;
};

}  // namespace nodesnap
