// What differs between an inode in one backup and one in another, besides their names.
#pragma once

#include <cstdint>

#include "snapshot/diff/contents.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// Bits of a set of attributes.
enum InodeAttribute : std::uint32_t {
    kModeAttribute = 1,
    kOwnerAttribute = 2,
    kTimesAttribute = 4,
    kXattrsAttribute = 8,
    kFlagsAttribute = 16,
    kAllocationAttribute = 32,  // preallocated ranges
    kLinksAttribute = 64,
};

// The same file at two times: its number hasn't been given to another since. On file systems without generations the time of birth tells.
bool same_file(const Inode& before, const Inode& after);

struct InodeChange {
    ContentChange content;
    std::uint32_t attributes = 0;  // of InodeAttribute
    bool any() const { return content.changed || attributes != 0; }
};

// A file in each of two backups.
struct FilePair {
    std::uint64_t ino_before = 0, ino_after = 0;
    Inode before, after;
};

// Compares two inodes of the same type. One thread. Memory: as ContentDiff.
//
// The time of modification is told as an attribute only where it isn't the consequence of another change: not with changed contents, nor of
// a directory (a name in it was added or removed) or a symlink. With `all` it always is, and so are the other times, the number of links,
// and preallocated ranges.
class InodeDiff {
public:
    InodeDiff(const Repository& repository, const Manifest& before, const Manifest& after, bool all)
        : repository_(repository), before_(before), after_(after), all_(all), contents_(repository) {}
    InodeChange compare(const FilePair& files);

private:
    bool times_differ(const FilePair& files, bool content_changed) const;
    bool xattrs_differ(const FilePair& files);

    const Repository& repository_;
    const Manifest& before_;
    const Manifest& after_;
    const bool all_;
    ContentDiff contents_;
};

}  // namespace nodesnap
