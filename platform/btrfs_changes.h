// The extents of a file on btrfs, as the subvolume's tree has them, and which stretches of it differ between two snapshots, without reading
// any data. As platform/btrfs_tree.h: bounded memory, CAP_SYS_ADMIN, Linux 5.15 or later, nodesnap::Error, `subvolume` is a descriptor of
// anything in the subvolume that stays open. An object one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "platform/btrfs_search.h"

namespace nodesnap::btrfs {

// One EXTENT_DATA item. What follows `ram_bytes` of an inline extent in its block, and what no extent covers, is a hole.
struct FileExtent {
    enum class Kind { kData, kInline, kUnwritten };
    Kind kind = Kind::kData;
    std::uint64_t offset = 0;      // in the file
    std::uint64_t length = 0;      // in the file; an inline extent's is rounded up to 4,096, the smallest block
    std::uint64_t generation = 0;  // transaction that wrote it
    std::uint64_t ram_bytes = 0;   // size of the whole extent, decoded
    // Not of inline ones: where the whole extent lies, encoded, and where in it, decoded, this piece begins.
    std::uint64_t disk_address = 0;
    std::uint64_t disk_length = 0;
    std::uint64_t extent_offset = 0;
    std::uint8_t compression = 0;
    std::uint8_t encryption = 0;
    std::uint16_t other_encoding = 0;
    std::vector<std::byte> inline_data;  // encoded; less than a block

    std::uint64_t end() const { return offset + length; }
    bool operator==(const FileExtent&) const = default;
};

// The extents of a file that end after `from`, ascending; unwritten ones may lie beyond the file's end. Explicit holes are left out. To
// begin in the middle costs a few searches, however many extents there are before.
class FileExtents {
public:
    FileExtents(int subvolume, std::uint64_t ino, std::uint64_t from, const std::string& path);
    bool next(FileExtent& extent);  // false at the end

private:
    bool parse(const Item& item, FileExtent& extent) const;

    std::uint64_t from_;
    TreeSearch search_;
};

// Whether two pieces are of one extent: the same stored bytes, whatever part of them each shows. Only if they were read at one and the same
// time: balance moves an extent, keeping its generation, to where another one was.
bool same_extent(const FileExtent& a, const FileExtent& b);

// What a stretch of the newer snapshot is.
struct ChangedStretch {
    // kOlderData: of extents that were there already, so that it was cloned from elsewhere, or put back. Only where it is asked for.
    enum class Kind { kData, kOlderData, kUnwritten, kHole };
    Kind kind = Kind::kData;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;

    std::uint64_t end() const { return offset + length; }
    bool operator==(const ChangedStretch&) const = default;
};

// Which stretches of [0, end) of a file differ between two read-only snapshots of one file system that both exist: ascending, not
// overlapping, neighbours of one kind merged. What lies between them is the same in both: the same stored bytes, unwritten, or a hole. They
// begin and end at multiples of 4,096 or at the limits given, and may go beyond the file's end.
//
// Everything in [changed_from, end) counts as changed; the parent isn't looked at there. What no extent covers is a hole up to `end`, so
// that the last stretch can be a hole as long as `end` allows. An inode that isn't there is one hole.
//
// Data is the same if it is the same place in the same extent, written by the same transaction: data that was moved or written again
// (balance, defragmentation, deduplication) counts as changed. Both must have it there at one and the same time: so of each stretch the
// snapshot's extents are read, then the parent's, then the snapshot's again, and where these have changed, all counts as changed. Data of
// extents that a transaction up to `older` wrote is kOlderData.
class FileChanges {
public:
    FileChanges(int parent, int snapshot, std::uint64_t ino, std::uint64_t changed_from, std::uint64_t end, std::string path,
                std::uint64_t older = 0);
    bool next(ChangedStretch& stretch);  // false at the end

private:
    static constexpr std::size_t kWindow = 768;         // extents of the snapshot's: as many as one search gives
    static constexpr std::size_t kWindowBefore = 1536;  // of the parent's

    // The extents of one of the two files in the window, looked at from its begin to its end.
    class Side {
    public:
        void look_at(std::vector<FileExtent> extents);
        // The extent that covers `position`, or nullptr: a hole. Positions ascend.
        const FileExtent* at(std::uint64_t position);
        // Until where that holds, after at(position), or beyond the window.
        std::uint64_t until(std::uint64_t position) const;

    private:
        std::vector<FileExtent> extents_;
        std::size_t current_ = 0;
    };
    struct Piece {
        ChangedStretch stretch;
        bool changed = false;
    };
    void fill();
    std::vector<FileExtent> read(int subvolume, std::size_t limit);
    Piece piece_at_position();
    ChangedStretch::Kind kind_of(const FileExtent* extent) const;

    const int parent_subvolume_;
    const int snapshot_subvolume_;
    const std::uint64_t ino_;
    const std::string path_;
    Side parent_;
    Side snapshot_;
    const std::uint64_t changed_from_;
    const std::uint64_t end_;
    const std::uint64_t older_;
    std::uint64_t position_ = 0;
    std::uint64_t window_end_ = 0;
    bool moved_ = false;  // in the window something was moved while it was read
};

}  // namespace nodesnap::btrfs
