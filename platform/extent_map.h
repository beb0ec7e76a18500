// ExtentReader: which ranges of a file hold data, in ascending order, in bounded memory for any number of extents.
//
// Uses FIEMAP in batches; where the file system has none (tmpfs, overlay, FUSE), SEEK_DATA and SEEK_HOLE, and where it has neither, the
// whole file is one extent. What no extent covers is a hole.
// Unwritten extents may lie beyond the end of the file; `length` isn't clipped to the file's size. One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nodesnap {

struct Extent {
    enum Flag : std::uint32_t {
        kUnwritten = 1,  // allocated, reads as zeros
        kInline = 2,     // in the metadata: no physical place of its own
        kEncoded = 4,    // compressed or encrypted: `physical` isn't the plain bytes
        kDelalloc = 8,   // not on storage yet
        kUnknown = 16,   // `physical` means nothing
        kShared = 32,
    };
    std::uint64_t logical = 0;
    std::uint64_t physical = 0;
    std::uint64_t length = 0;
    std::uint32_t flags = 0;

    bool unwritten() const { return (flags & kUnwritten) != 0; }
    std::uint64_t end() const { return logical + length; }
    bool operator==(const Extent&) const = default;
};

class ExtentReader {
public:
    // `fd` must stay open and, for the SEEK_DATA way, its file position is used. Extents that end at or before `start` are left out,
    // and such as begin at or after `end` need not come.
    ExtentReader(int fd, std::string path, std::uint64_t start = 0, std::uint64_t end = UINT64_MAX);
    // Data that isn't on storage yet isn't written there first: what was written to an unwritten extent may still be told as unwritten.
    void leave_unsynced() noexcept { synced_ = true; }
    bool next(Extent& extent);                                          // false at the end; throws Error
    bool exact() const noexcept { return method_ == Method::kFiemap; }  // physical places and unwritten extents are told

private:
    enum class Method { kFiemap, kSeek, kWhole };
    static constexpr std::uint32_t kBatch = 256;

    bool fill();
    bool next_by_seek(Extent& extent);
    bool next_whole(Extent& extent);

    int fd_;
    std::string path_;
    std::uint64_t position_;
    std::uint64_t end_;
    Method method_ = Method::kFiemap;
    bool last_ = false;
    bool synced_ = false;
    std::vector<Extent> batch_;
    std::size_t taken_ = 0;
    std::vector<std::uint64_t> buffer_;  // struct fiemap with kBatch extents
};

struct DataStretch {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};
// The next stretch of data in [begin, end) of a file, as SEEK_DATA tells it; both are `end` if there is none. Uses the file position.
DataStretch next_data(int fd, std::uint64_t begin, std::uint64_t end, const std::string& path);

}  // namespace nodesnap
