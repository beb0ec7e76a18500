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

// All that a change of a file's content or attributes, or another file of its number, makes different, or later.
struct LiveStatus {
    FileType type = FileType::kRegular;
    std::uint16_t mode = 0;
    std::uint32_t uid = 0, gid = 0;
    std::uint64_t size = 0, links = 0;
    Time modified, changed, born;

    static LiveStatus of(const Inode& inode);
    bool operator==(const LiveStatus&) const = default;
};

class LiveStamp {
public:
    // Whether the file system is one of those.
    static bool is_suitable(const std::string& directory);
    // Error::refused otherwise.
    static void refuse_unsuitable(const std::string& directory);

    // Writes back all that is dirty, so it may take long. `root` is open on `directory`.
    static LiveStamp take(int root, const std::string& directory);

    // False where the clock was set back since: then nothing can be told.
    bool counts() const;
    // Whether a regular file has the content and the attributes that were read after this was taken. `recorded` is from before it was
    // read; of both only what statx tells is looked at.
    bool is_unchanged(std::uint64_t ino, const LiveStatus& recorded, const LiveStatus& now) const;

private:
    LiveStamp() = default;

    std::int64_t at_ns_ = 0;                            // by the clock that change times are of
    std::int64_t clock_ahead_ns_ = 0;                   // of the one that is never set, at least
    std::optional<std::vector<std::uint64_t>> direct_;  // inodes that somebody wrote directly then, ascending; none: any may be
};

}  // namespace nodesnap
