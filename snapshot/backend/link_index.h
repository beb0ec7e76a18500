// LinkIndex: what is known of those files of a snapshot that are further names of the node's own inodes. See docs/design.md, "Snapshots
// made of links".
//
// A file of its own beside the tree, of one record of a fixed size for each inode, ascending. What can't be read counts as not there.
// Reading is thread-safe, in constant memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file.h"
#include "platform/file_descriptor.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

struct LinkRecord {
    std::uint64_t ino = 0;
    std::uint64_t generation = 0;  // FS_IOC_GETVERSION, 0 if unknown
    std::uint64_t size = 0;
    std::uint64_t links = 0;      // names in the snapshot
    std::uint64_t all_links = 0;  // at all, when the snapshot was made
    Time modified, born;
    Time changed;  // by anybody else but nodesnap, the last time: what is stored
    Time seen;     // the change time that it has if nobody else has changed it since

    static LinkRecord of(const FileStatus& status, std::uint64_t generation);  // as if we had never touched it
    // Its contents can't have been written since, unless somebody set the times back.
    bool has_content_of(const FileStatus& status) const;
    // Nobody else has changed anything of it since.
    bool is_untouched(const FileStatus& status) const;
    // The same state of the same inode as in another snapshot.
    bool is_same(const LinkRecord& other) const;
};

class LinkIndex {
public:
    // Of a snapshot, into a new file of its directory. `records` ascend. Nothing is durable yet. `path` is for messages.
    static void write(int directory, const std::vector<LinkRecord>& records, const std::string& path);

    LinkIndex() = default;  // of none
    // `writable`: for moved().
    explicit LinkIndex(int directory, bool writable = false);

    bool exists() const { return static_cast<bool>(file_); }  // the snapshot is made of links
    std::optional<LinkRecord> find(std::uint64_t ino) const;
    // Nodesnap itself has changed what was as it should be, from `before` to `after`, while nobody else could.
    void moved(std::uint64_t ino, const Time& before, const Time& after) const;

private:
    struct Found {
        LinkRecord record;
        std::uint64_t at = 0;
    };
    std::optional<Found> look_up(std::uint64_t ino) const;

    FileDescriptor file_;
    std::uint64_t records_ = 0;
};

// The indexes of several snapshots, which may have the same inodes.
class LinkIndexes {
public:
    void add(LinkIndex index) { indexes_.push_back(std::move(index)); }

    // Of an inode that is as one of them has it.
    std::optional<LinkRecord> find_untouched(const FileStatus& status) const;
    // How many names the inode has in them.
    std::uint64_t links_of(std::uint64_t ino) const;
    void moved(std::uint64_t ino, const Time& before, const Time& after) const;

private:
    std::vector<LinkIndex> indexes_;
};

// Whether nothing but so many names came (or went), as far as a status tells: a change of extended attributes alone it doesn't.
bool only_names_changed(const FileStatus& before, const FileStatus& after, int names);

struct RemovedLink {
    int error = 0;  // errno
    FileStatus before{}, after{};
    bool only_ours = false;  // nobody else could write to it between the two
};
// Removes a name in a directory of a snapshot, of the inode that is open as `file`, and tells the others of the new change time.
RemovedLink remove_link(int directory, const std::string& name, int file, const LinkIndexes& others);

// Removes from a tree all files that have names elsewhere, and leaves them otherwise as they are, their flags above all. The rest is for
// who removes the tree.
void remove_links(int tree, const LinkIndexes& others);

}  // namespace nodesnap
