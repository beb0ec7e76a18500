// ExtentChanges: what one file has in common in two snapshots, told by where its data lies on storage in either.
//
// Clones share blocks, and a block that is shared is never written to: where both have the same block, both have what it held when the
// earlier one was made. Of snapshots of the device below, the device's blocks must be the same, too (SameBlocks). For that both must have
// it at one and the same time; so of each stretch the later map is read, then the earlier one, then the later one again: data that
// something moves meanwhile (defragmentation, balance) counts as different. So does what has no place of its own (inline), one that says
// nothing of its bytes (encoded), or none yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "platform/extent_map.h"

namespace nodesnap {

class SameBlocks;

class ExtentChanges {
public:
    static constexpr std::uint32_t kSame = 1U << 31;  // in an Extent's flags: the earlier clone has the same data there

    // Both must stay open; neither is being written to. `blocks`: of the storage that holds both snapshots; what lies in others than these
    // counts as different. nullptr: all that lies at the same place is the same. `path` is for messages.
    ExtentChanges(int before, int now, std::string path, const SameBlocks* blocks = nullptr);

    // All that the later one has, in ascending order, cut where one end of what is the same lies; false at the end. Where a map can't be
    // read, what is left may be one extent.
    bool next(Extent& extent);

private:
    static constexpr std::size_t kWindow = 256;         // extents of the later map
    static constexpr std::size_t kWindowBefore = 1024;  // of the earlier one
    static constexpr std::size_t kPieces = 4096;        // that they are cut into at a time

    bool fill();
    void compare_window();
    std::vector<Extent> window_of(int file, std::uint64_t begin, std::uint64_t end, std::size_t limit) const;
    std::uint64_t compare(const Extent& extent, const std::vector<Extent>& before);
    std::uint64_t add_same_place(const Extent& extent);

    const int before_;
    const int now_;
    const std::string path_;
    const SameBlocks* const blocks_;
    std::uint64_t position_ = 0;
    std::vector<Extent> found_;
    std::size_t taken_ = 0;
};

}  // namespace nodesnap
