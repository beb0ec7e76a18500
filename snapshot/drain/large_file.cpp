#include "snapshot/drain/large_file.h"

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {
namespace {

std::uint64_t round_up(std::uint64_t bytes) {
    return (bytes + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
}

}  // namespace

LargeFile::LargeFile(FileDescriptor fd, std::string path, std::uint64_t ino, Inode inode, Catalog& catalog, NextExtent extents, bool edits,
                     std::optional<Inode> stored)
    : fd_(std::move(fd)),
      path_(std::move(path)),
      ino_(ino),
      inode_(std::move(inode)),
      catalog_(catalog),
      next_extent_(std::move(extents)),
      edits_(edits),
      stored_(std::move(stored)) {}

// Sets the next stretch of data: neighbouring extents, up to the end of the file. Extents of smaller blocks (ext4 with 1 KiB) are widened
// to what O_DIRECT can read anywhere.
bool LargeFile::next_data_extent() {
    data_offset_ = data_end_ = 0;
    while (!extents_ended_) {
        if (!have_ahead_ && !next_extent_(ahead_)) {
            extents_ended_ = true;
            break;
        }
        have_ahead_ = true;
        const bool data = !ahead_.unwritten() && ahead_.logical < inode_.size;
        if (data_end_ != 0 && (!data || ahead_.logical > data_end_ || data_end_ - data_offset_ >= kChunkBytes)) {
            return true;
        }
        have_ahead_ = false;
        if (data) {
            if (data_end_ == 0) {
                data_offset_ = std::max(ahead_.logical / kPackAlignment * kPackAlignment, last_end_);
            }
            last_end_ = data_end_ = std::min(round_up(ahead_.end()), inode_.size);
        } else if (ahead_.unwritten()) {
            add_unwritten(ahead_);
        }
    }
    return data_end_ != 0;
}

// Where blocks are smaller than the alignment, its edges belong to the data beside it, which is read in whole aligned blocks.
void LargeFile::add_unwritten(const Extent& extent) {
    Run run;
    run.offset = std::max(round_up(extent.logical), last_end_);
    const std::uint64_t end = extent.end() / kPackAlignment * kPackAlignment;
    if (end > run.offset) {
        run.length = end - run.offset;
        run.flags = Run::kUnwritten;
        catalog_.add_run(ino_, run);
    }
}

// Cuts segments off the present stretch; they end at multiples of the segment size, so that the same bytes are cut alike next time.
void LargeFile::cut_extent(std::vector<FileRange>& chunk, std::uint64_t& bytes) {
    while (data_offset_ < data_end_ && bytes < kChunkBytes && chunk.size() < kChunkRanges) {
        const std::uint64_t boundary = (data_offset_ / kSegmentLimit + 1) * kSegmentLimit;
        const auto length = static_cast<std::uint32_t>(std::min(data_end_, boundary) - data_offset_);
        chunk.push_back({data_offset_, length});
        bytes += length;
        data_offset_ += length;
    }
}

std::vector<FileRange> LargeFile::next_chunk() {
    const std::lock_guard lock(mutex_);
    std::vector<FileRange> chunk;
    std::uint64_t bytes = 0;
    while (!exhausted_ && bytes < kChunkBytes && chunk.size() < kChunkRanges) {
        if (data_offset_ == data_end_) {
            try {
                exhausted_ = !next_data_extent();
            } catch (const Error&) {
                // What is known of the data is handed out first; the error comes again.
                if (chunk.empty() && data_offset_ == data_end_) {
                    throw;
                }
                if (data_offset_ == data_end_) {
                    break;
                }
            }
        }
        cut_extent(chunk, bytes);
    }
    if (chunk.empty()) {
        add_record_if_done();
    } else {
        ++chunks_out_;
    }
    return chunk;
}

void LargeFile::read_without_map(const std::function<NextExtent(NextExtent)>& limit) {
    const std::lock_guard lock(mutex_);
    damaged_ = true;
    have_ahead_ = false;
    const std::uint64_t from = std::max(last_end_, data_offset_);
    data_offset_ = data_end_ = 0;
    next_extent_ = limit([rest = Extent{from, 0, inode_.size - std::min(from, inode_.size), 0}](Extent& extent) mutable {
        extent = std::exchange(rest, {});
        return extent.length != 0;
    });
}

bool LargeFile::exhausted() const {
    const std::lock_guard lock(mutex_);
    return exhausted_;
}

void LargeFile::chunk_done() {
    const std::lock_guard lock(mutex_);
    --chunks_out_;
    add_record_if_done();
}

void LargeFile::add_record_if_done() {
    if (exhausted_ && chunks_out_ == 0 && !recorded_) {
        recorded_ = true;
        inode_.damaged = damaged_;
        if (edits_) {
            catalog_.edit_inode(ino_, inode_);
        } else {
            catalog_.add_inode(ino_, inode_);
        }
    }
}

}  // namespace nodesnap
