// What of a file is taken over from the parent backup without being read, since it has the same data at the same place in the parent's
// snapshot. See docs/design.md, "Incremental backups".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "platform/error.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/large_file.h"

namespace nodesnap {

// What the parent backup and its snapshot have of one inode.
struct EarlierFile {
    Inode record;
    FileDescriptor file;
};
// None where the parent's snapshot tells no changes by places, or the parent hasn't that inode (number and generation) whole.
std::optional<EarlierFile> earlier_file(const DrainState& state, std::uint64_t ino, const Inode& now);
// The same of another inode's file, which is called as it was: of a node directory whose numbers are others since a rollback. What lies at
// the same place is the same data, whosever it was.
std::optional<EarlierFile> earlier_file(const DrainState& state, const Counterpart& counterpart);

// The parent backup's map of a file can't be read: not the source's fault, whatever --skip-unreadable says.
class StoredMapError : public Error {
public:
    explicit StoredMapError(const Error& error) : Error(error) {}
};

// The extents of the file `fd` that aren't the earlier one's; what is, is added to the state's catalog meanwhile. `unwritten` as in
// SourceInode. `fd` must stay open. Asking for them throws nothing but StoredMapError, then again and again.
LargeFile::NextExtent not_taken_over(DrainState& state, int fd, std::uint64_t ino, const SourceInode& source, EarlierFile earlier,
                                     const std::string& path);

// The same of a small file, all or nothing: whether `inode` has got its content, or runs, from the parent backup.
bool take_over_placed(const DrainState& state, std::optional<EarlierFile> earlier, int fd, Inode& inode, const std::string& path);

// Extents with unwritten ranges in between, where there is a hole.
LargeFile::NextExtent with_unwritten(LargeFile::NextExtent extents, std::vector<UnwrittenRange> ranges);

}  // namespace nodesnap
