// RangeReader: one worker's way from a range of a file to the runs that it becomes: read, compared with what is stored where there is
// something to compare with, salvaged page by page where the device doesn't give it. Lives on the worker's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/ring.h"
#include "io/semaphore.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/large_file.h"
#include "snapshot/drain/pack_stream.h"

namespace nodesnap {

class RangeReader {
public:
    RangeReader(DrainState& state, Ring& ring, PackStream& packs);

    // Reads a range of a file, and stores what `stored` doesn't have of it. One run, or several: around what is stored already, and around
    // parts that couldn't be read.
    Task<std::vector<Run>> read(int fd, FileRange range, std::uint64_t file_size, std::string path, const std::optional<Inode>& stored);

    // As read_full(), under the cap.
    Task<std::int64_t> read_content(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size);

    // A read gave an error, or another length than the file had. Throws, or takes it down and lets the drain go on.
    void fell_short(int fd, const std::string& path, std::int64_t got);
    // Throws if the file isn't what it was: of a live source, or a link in a snapshot.
    void check_unchanged(int fd, const Inode& before, const std::string& path);

private:
    static constexpr std::size_t kComparing = 4;  // ranges that are compared at once

    struct FreeScratch {
        void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kPackAlignment}); }
    };
    using Scratch = std::unique_ptr<std::byte, FreeScratch>;  // kSegmentLimit bytes
    Scratch take_scratch();

    Task<std::int64_t> read_aligned(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size);
    Task<std::vector<Run>> store_differences(std::span<const std::byte> data, std::uint64_t offset, const Inode& stored);
    Task<std::vector<Run>> read_segment(int fd, FileRange range, std::uint64_t file_size, std::string path,
                                        PackStream::Reservation reservation);
    Task<std::vector<Run>> salvage(int fd, FileRange range, std::uint64_t file_size, PackStream::Reservation reservation);

    DrainState& state_;
    Ring& ring_;
    PackStream& packs_;
    AsyncSemaphore comparing_;
    std::vector<Scratch> scratch_;  // that nobody uses now
};

}  // namespace nodesnap
