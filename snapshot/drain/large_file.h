// LargeFile: a regular file that several workers drain together, a chunk of ranges each.
//
// It hands out what holds data, in ascending order; holes are left out, unwritten extents are recorded as such in the catalog. Of a file
// that the parent backup holds it hands out what has changed, and records what isn't there any more. Whoever finishes the last chunk adds
// the inode record, since only then is it known whether all of it could be read. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "platform/extent_map.h"
#include "platform/file_descriptor.h"
#include "snapshot/drain/catalog.h"

namespace nodesnap {

struct FileRange {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;  // at most kSegmentLimit
};

class LargeFile {
public:
    static constexpr std::uint64_t kChunkBytes = 32ULL << 20;
    static constexpr std::size_t kChunkRanges = 512;

    // Gives the file's extents of data and unwritten ones in ascending order; false at the end; throws Error.
    using NextExtent = std::function<bool(Extent&)>;

    // `edits`: the extents are those that differ from the parent backup's map. `stored`: an earlier backup's record, to compare with.
    LargeFile(FileDescriptor fd, std::string path, std::uint64_t ino, Inode inode, Catalog& catalog, NextExtent extents, bool edits,
              std::optional<Inode> stored);

    int fd() const { return fd_.get(); }
    const std::string& path() const { return path_; }
    std::uint64_t ino() const { return ino_; }
    const Inode& inode() const { return inode_; }
    const std::optional<Inode>& stored() const { return stored_; }

    // The next ranges to read; empty when there are no more. Each non-empty chunk is answered by one chunk_done().
    std::vector<FileRange> next_chunk();
    bool exhausted() const;
    // The extents can't be told (a failing disk): all that is left, or what `limit` leaves of it, is read as if it were data, and the file
    // counts as damaged.
    void read_without_map(const std::function<NextExtent(NextExtent)>& limit);
    void chunk_done();
    void mark_damaged() { damaged_ = true; }

private:
    void cut_extent(std::vector<FileRange>& chunk, std::uint64_t& bytes);
    bool next_data_extent();
    void add_unwritten(const Extent& extent);
    void add_record_if_done();

    FileDescriptor fd_;
    std::string path_;
    std::uint64_t ino_;
    Inode inode_;
    Catalog& catalog_;
    mutable std::mutex mutex_;
    NextExtent next_extent_;
    bool edits_;
    const std::optional<Inode> stored_;
    std::uint64_t data_offset_ = 0;  // what is left of the present stretch of data
    std::uint64_t data_end_ = 0;
    std::uint64_t last_end_ = 0;  // of the last stretch
    Extent ahead_{};              // read, but not part of the present stretch
    bool have_ahead_ = false;
    bool extents_ended_ = false;
    bool exhausted_ = false;
    bool recorded_ = false;
    std::uint64_t chunks_out_ = 0;
    std::atomic<bool> damaged_{false};
};

}  // namespace nodesnap
