// LiveStamp: an instant of a directory that is in use, against which a later look tells which of its files are still as they were read.
//
//     const LiveStamp stamp = LiveStamp::take(root, directory);     // then everything is read, and what statx tells is recorded before it
//     ...
//     if (stamp.counts()) ... stamp.is_unchanged(ino, recorded, now)
//
// Rests on what ext4, XFS and btrfs do with change times, locks and dirty pages: see docs/design.md, "Reading a directory in passes".
//
// Errors: nodesnap::Error. Threads: any, once it is taken. Privileges: those to look into other users' processes; without them every file
// counts as one that is written directly.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/repository/records.h"

namespace nodesnap {

class LiveStamp {
public:
    // Error::refused where the file system isn't one of those.
    static void refuse_unsuitable(const std::string& directory);

    // Writes back all that is dirty, so it may take long. `root` is open on `directory`.
    static LiveStamp take(int root, const std::string& directory);

    // False where the clock was set back since: then nothing can be told.
    bool counts() const;
    // Whether a regular file has the content and the attributes that were read after this was taken. `recorded` is from before it was
    // read; of `now` only what statx tells is looked at.
    bool is_unchanged(std::uint64_t ino, const Inode& recorded, const Inode& now) const;

private:
    LiveStamp() = default;

    std::int64_t at_ns_ = 0;                            // by the clock that change times are of
    std::int64_t clock_ahead_ns_ = 0;                   // of the one that is never set, at least
    std::optional<std::vector<std::uint64_t>> direct_;  // inodes that somebody wrote directly then, ascending; none: any may be
};

}  // namespace nodesnap
