// What was there before of ranges whose stored data is lost, to be kept instead of zeros: nothing proves it to be what the backup held, but
// it may be the only copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "snapshot/restore/lost.h"
#include "snapshot/run_reader.h"

namespace nodesnap {

struct KeptBytes {
    std::uint32_t file = 0;  // the caller's number
    std::uint64_t offset = 0;
    std::vector<std::byte> bytes;
};

struct LostPlace {
    std::uint32_t file = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;  // a few MiB at most: what is kept of it is held in memory
};

// Tells `lost` of the range, and adds to `kept` what `fd` has there as data; holes, and pages that can't be read, are left out. -1: there
// is no such file. Uses the file position.
void take_present(RestoreLost& lost, const std::string& path, int fd, const LostPlace& place, std::vector<KeptBytes>& kept);
// All of the piece's range is kept.
bool covers(const std::vector<KeptBytes>& kept, const Piece& piece);
// Puts into `data`, which is the piece's, what is kept of its range.
void put_kept(const std::vector<KeptBytes>& kept, const Piece& piece, std::span<std::byte> data);

}  // namespace nodesnap
