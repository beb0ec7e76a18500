// What of a large file is to be read: all of its data, or what has changed since the parent backup, without what an earlier drain of the
// same snapshot has stored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/large_file.h"

namespace nodesnap {

// How the content of a file is taken.
enum class Content {
    kNone,    // there is none
    kInline,  // into its record
    kWhole,   // as one segment, without asking for its extents
    kRanges,  // what its extents tell; they may have holes or be unwritten, also beyond the end of the file
};
inline constexpr std::uint64_t kPlainSmallFile = 16U << 10;  // what is larger may be worth asking for its extents
// `has_unwritten`: there is more to be told of it than what is allocated.
Content content_of(std::uint64_t size, std::uint64_t allocated, bool has_unwritten = false);

struct FileExtents {
    LargeFile::NextExtent next;  // what has gone is told to the state's catalog meanwhile
    bool edits = false;          // they are what differs from the parent backup's map
};
// `fd` must stay open while extents are asked for. `stored`: with what it is compared, if there is that.
FileExtents extents_to_read(DrainState& state, int fd, std::uint64_t ino, const SourceInode& source,
                            const std::optional<Counterpart>& stored, const std::string& path);

// Whether a small file, whose content is taken kInline or kWhole, has got it from the parent backup without being read: as content or runs
// of `inode`. `fd` as above.
bool take_over_small(const DrainState& state, int fd, std::uint64_t ino, Content content, Inode& inode, const std::string& path);
// The same from what it would be compared with, where that is another inode's.
bool take_over_small(const DrainState& state, int fd, std::uint64_t ino, const Counterpart& stored, Inode& inode, const std::string& path);

// The parts of the extents that an earlier drain of the same snapshot hasn't stored.
LargeFile::NextExtent not_stored_yet(const DrainState& state, std::uint64_t ino, LargeFile::NextExtent extents);

}  // namespace nodesnap
