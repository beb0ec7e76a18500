#include "snapshot/backend/file_copy.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/extent_map.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kCopyPiece = 4U << 20;

// What of an unwritten extent nobody has written to; what somebody has, in memory only, was copied.
void add_unwritten(int file, const Extent& extent, std::uint64_t size, const std::string& path, std::vector<UnwrittenRange>& ranges) {
    const auto add = [&](std::uint64_t begin, std::uint64_t end) {
        if (begin < end && !ranges.empty() && ranges.back().offset + ranges.back().length == begin) {
            ranges.back().length += end - begin;
        } else if (begin < end) {
            ranges.push_back({begin, end - begin});
        }
    };
    std::uint64_t at = extent.logical;
    for (const std::uint64_t end = std::min(extent.end(), size); at < end;) {
        const DataStretch data = next_data(file, at, end, path);
        add(at, data.begin);
        at = data.end;
    }
    add(at, extent.end());
}

}  // namespace

std::vector<UnwrittenRange> copy_file(int from, const FileStatus& status, int to, const std::string& path,
                                      const std::function<void()>& before_piece) {
    if (const int failed = entry::truncate(to, status.stx_size); failed != 0) {
        throw Error::system("set the size of", "the copy of " + path, failed);
    }
    for (std::uint64_t at = 0; at < status.stx_size;) {
        const DataStretch data = next_data(from, at, status.stx_size, path);
        for (at = data.begin; at < data.end;) {
            before_piece();
            const std::uint64_t copied = copy_some(from, to, at, std::min(kCopyPiece, data.end - at), path);
            if (copied == 0) {
                throw Error::system("copy", path, ESTALE);
            }
            at += copied;
        }
        at = data.end;
    }
    std::vector<UnwrittenRange> ranges;
    if (stat_fd(to, path).stx_blocks < status.stx_blocks) {
        ExtentReader extents(from, path);
        extents.leave_unsynced();  // that would be waited for, with the daemon
        for (Extent extent; extents.next(extent);) {
            if (extent.unwritten()) {
                add_unwritten(from, extent, status.stx_size, path, ranges);
            }
        }
    }
    return ranges;
}

}  // namespace nodesnap
